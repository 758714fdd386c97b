#pragma once

#include "launcher/job_plan.h"
#include "launcher/preflight/machine_choice.h"
#include "launcher/preflight/preflight_state.h"

namespace catena::launcher {

/// The machines of the plan, and then the spare ones: an agent on each.
[[nodiscard]] std::vector<Host> all_hosts(const JobPlan& plan,
                                          const LaunchRequest& request);

[[nodiscard]] PreflightOptions preflight_options(const JobPlan& plan,
                                                 const LaunchRequest& request);

/// The machine of a job that has it alone: its disk and memory, asked here and
/// now. Its files are not compared with themselves.
[[nodiscard]] PreflightState preflight_here(const JobPlan& plan,
                                            const LaunchRequest& request);

/// Says what was found and what follows, and writes it to RUN/preflight.json.
/// Returns: the numbers, among all_hosts(), of the machines that the job gets.
[[nodiscard]] Chosen conclude(const JobPlan& plan, const LaunchRequest& request,
                              const PreflightState& state);

/// The plan on these of all_hosts(): of as many machines the same ranks, of
/// fewer as many on each as before.
/// Throws: Usage as lay_ranks().
[[nodiscard]] JobPlan plan_on(const JobPlan& plan, const LaunchRequest& request,
                              const std::vector<int>& nodes);

}  // namespace catena::launcher
