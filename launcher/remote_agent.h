#pragma once

namespace catena::launcher {

/// The process that is an agent: reads an Invitation from standard input,
/// connects to the launcher, and does what it says by a LocalAgent. When
/// standard input ends, or the connection is lost or silent for a lease, it
/// kills its ranks and ends; when it is killed itself, the kernel kills them.
/// Returns: the exit code; kExitRefused where it or the launcher is another
/// than the other one expects.
[[nodiscard]] int run_remote_agent();

}  // namespace catena::launcher
