#pragma once

#include <string>
#include <vector>

namespace catena::launcher {

/// `catena trace merge [RUN] [--output FILE]`: one file of the traces that a
/// run's ranks wrote. Returns: the exit code.
/// Throws: as merge_traces().
[[nodiscard]] int trace(const std::vector<std::string>& arguments);

}  // namespace catena::launcher
