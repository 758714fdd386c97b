#pragma once

#include <string>

namespace catena::launcher {

/// What the kernel says of a process of ours: "process 123: T (stopped), 5
/// threads, 1024 MiB, 3.2 s of processor time, in do_signal_stop", and its
/// kernel stack on lines of their own where that may be read. Only what it
/// tells without stopping the process: no debugger is needed.
[[nodiscard]] std::string process_report(int process);

}  // namespace catena::launcher
