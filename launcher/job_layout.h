#pragma once

#include "launcher/job_state.h"

namespace catena::launcher {

/// Which agents a generation of a job has, and which ranks each of them.

[[nodiscard]] int agent_count(const JobState& state);  ///< of the whole job
[[nodiscard]] bool takes_part(const JobState& state, int agent);
/// The agent of rank 0.
[[nodiscard]] int first_agent(const JobState& state);
/// The host of a rank; "" where that is not known.
[[nodiscard]] std::string host_of(const JobState& state, int rank);

/// Fewer agents than all may do.
[[nodiscard]] bool is_elastic(const JobState& state);
/// It is decided who takes part, and all of them are ready.
[[nodiscard]] bool all_ready(const JobState& state);
/// Lays the ranks on all agents, if all are ready, or on those that are, if
/// they are enough and the time of the others is over. Returns whether.
bool lay_generation(JobState& state);

}  // namespace catena::launcher
