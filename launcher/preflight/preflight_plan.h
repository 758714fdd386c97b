#pragma once

#include "launcher/job_plan.h"
#include "launcher/preflight/machine_choice.h"
#include "launcher/preflight/preflight_state.h"

namespace catena::launcher {

/// The machines of the plan, and then the spare ones: an agent on each.
[[nodiscard]] std::vector<Host> all_hosts(const JobPlan& plan,
                                          const LaunchRequest& request);

/// The launcher is the only one: it looks at its disk and memory, and does not
/// compare its files with themselves.
[[nodiscard]] bool looks_alone(const LaunchRequest& request);

[[nodiscard]] PreflightOptions preflight_options(const JobPlan& plan,
                                                 const LaunchRequest& request);

/// What follows from a preflight.
struct Conclusion {
  /// Among all_hosts(): the machines that the job gets, each with ranks.
  Chosen chosen = {};
  /// On these: of as many machines the same ranks, of fewer as many on each as
  /// before.
  JobPlan plan;
};

/// Says what was found and what follows, and writes it to RUN/preflight.json.
/// `ours`: what the launcher's own machine has; null: it did not answer.
[[nodiscard]] Conclusion conclude(const JobPlan& plan,
                                  const LaunchRequest& request,
                                  const PreflightState& state,
                                  const MachineFacts* ours);

}  // namespace catena::launcher
