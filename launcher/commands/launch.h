#pragma once

#include <string>
#include <vector>

namespace catena::launcher {

inline constexpr const char* kLaunchName = "launch";
inline constexpr const char* kLaunchSummary =
    "train by several ranks, watched and started again";

/// `catena launch ARGUMENTS...`. Returns: the exit code.
/// Throws: Error as make_plan() and run_job().
[[nodiscard]] int launch(const std::vector<std::string>& arguments);

}  // namespace catena::launcher
