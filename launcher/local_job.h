#pragma once

#include "launcher/job_plan.h"

namespace catena::launcher {

/// Runs the plan's ranks, with the coordinator in this process and the agents
/// where the plan says, until the job has ended. SIGINT, SIGTERM, SIGHUP and
/// SIGQUIT ask for an orderly stop, a second one ends all at once; SIGUSR1 has
/// the ranks save and go on, SIGUSR2 tell how they are. RUN/job.json
/// says how it stands (after every change) and how it ended,
/// RUN/launcher.log what was said.
/// Returns: the job's exit code.
/// Throws: Usage where another launcher is at work on the run; Io.
[[nodiscard]] int run_job(const JobPlan& plan, const LaunchRequest& request);

}  // namespace catena::launcher
