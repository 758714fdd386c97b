#pragma once

#include <string>
#include <vector>

namespace catena::launcher {

/// `catena dashboard RUN`: serves until SIGINT, SIGTERM or SIGHUP.
/// Returns: the exit code.
/// Throws: Error(kUsage) where RUN is no run; as Monitor.
[[nodiscard]] int dashboard(const std::vector<std::string>& arguments);

}  // namespace catena::launcher
