#pragma once

#include <utility>

#include "launcher/job_state.h"

namespace catena::launcher {

/// What a job does next: the moves that the events of job_state.h make. Each
/// changes the state and adds to `actions`.

inline constexpr std::chrono::seconds kBetweenNotes(10);

template <class Body>
void send(const JobState& state, int agent, Body body, JobActions& actions) {
  actions.emplace_back(SendCommand{agent, {state.generation, std::move(body)}});
}

/// Into another phase, or none.
void enter(JobState& state, JobPhase phase, JobActions& actions);
void end(JobState& state, JobPhase phase, int code, JobActions& actions);
/// Asked to end when there was nothing to save any more. Where there is a
/// checkpoint, the state is saved.
void end_as_asked(JobState& state, JobActions& actions);

void wait_for_start(JobState& state, Time now);
/// If there are agents enough for it, and nothing runs.
void start_if_ready(JobState& state, Time now, JobActions& actions);
void start_ranks(JobState& state, const std::string& rendezvous,
                 JobActions& actions);
void next_generation(JobState& state);
void begin_generation(JobState& state, Time now, JobActions& actions);

/// Those that are not empty, and are to be.
void stop_agents(JobState& state, bool at_once, Time now, JobActions& actions);
void fail_generation(JobState& state, Time now, JobActions& actions);
/// Nothing of the generation is left there.
void leave_empty(JobState& state, int agent, Time now, JobActions& actions);

/// Its ranks are dead, or as good as that.
void lose_agent(JobState& state, int agent, const std::string& what, Time now,
                JobActions& actions);
/// It is heard no more, and may still have ranks: the others' are stopped.
void miss_agent(JobState& state, int agent, const std::string& what, Time now,
                JobActions& actions);
/// Every heartbeat: says again what each agent should do, and notes those that
/// are heard no more, or are lost and to be replaced.
void keep_contact(JobState& state, Time now, JobActions& actions);
/// Without what would go to an agent that is heard no more: its lease is to
/// end.
[[nodiscard]] JobActions without_silent(const JobState& state,
                                        JobActions actions, Time now);

}  // namespace catena::launcher
