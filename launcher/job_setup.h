#pragma once

#include "launcher/agents.h"
#include "launcher/job_plan.h"

namespace catena::launcher {

/// Agents are processes of their own.
[[nodiscard]] bool is_remote(const LaunchRequest& request);

/// There is to be a preflight: machines that only mpirun reaches have no agent
/// that could look at them.
[[nodiscard]] bool may_look(const LaunchRequest& request);

/// A plan and a request, as the coordinator knows them.
[[nodiscard]] JobOptions job_options(const JobPlan& plan,
                                     const LaunchRequest& request);

/// As agents know them, with a new token.
[[nodiscard]] RankSetup rank_setup(const JobPlan& plan,
                                   const LaunchRequest& request);

/// How remote agents are started; says whether by TLS.
/// Throws: as address_towards().
[[nodiscard]] RemoteOptions remote_options(const JobPlan& plan,
                                           const LaunchRequest& request);

}  // namespace catena::launcher
