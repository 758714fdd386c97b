#pragma once

#include <string>
#include <vector>

#include "launcher/commands/launch_options.h"
#include "launcher/job_plan.h"

namespace catena::launcher {

inline constexpr const char* kLaunchName = "launch";
inline constexpr const char* kLaunchSummary =
    "train by several ranks, watched and started again";

/// What is to be done for these options: on which machines, with how many
/// ranks. Throws: Error(kUsage), Error(kConfig), saying where each flag that it
/// names was said.
[[nodiscard]] LaunchRequest launch_request(const LaunchOptions& options);

/// `catena launch ARGUMENTS...`. Returns: the exit code.
/// Throws: Error as LaunchOptions::read(), launch_request(), make_plan() and
/// run_job().
[[nodiscard]] int launch(const std::vector<std::string>& arguments);

}  // namespace catena::launcher
