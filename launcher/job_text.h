#pragma once

#include <string>
#include <string_view>

#include "launcher/job_state.h"

namespace catena::launcher {

/// What a job says of itself to people, each without a newline at its end.

/// "rank 2 was killed by signal 9 (Killed):" and its last words.
[[nodiscard]] std::string cause_text(const Cause& cause);
/// Of the first that failed, when it is heard: "rank 2 was killed by signal 9
/// (Killed); the others are ended, too". What they know of it comes later.
[[nodiscard]] std::string failed_text(const RankEnding& ending);
/// "rank 2 has come no further for 31 s: ...".
[[nodiscard]] std::string suspected_text(const RankSuspected& suspected);
/// "RUNNING, generation 2, step 40, checkpoint of step 30, 1 of 3 restarts".
[[nodiscard]] std::string status_text(const JobState& state);
/// "restart 1 of 3 from step 20".
[[nodiscard]] std::string restart_text(const JobState& state, Duration wait);
/// "2 of 4 ranks have not met: 1, 3; 20 s of 600 s".
[[nodiscard]] std::string waiting_text(const JobState& state, Duration waited);
/// The same when it is too late.
[[nodiscard]] std::string too_late_text(const JobState& state);
/// "generation 2 begins without agents 1 (node7): 1 of 2 take part, 4 ranks".
[[nodiscard]] std::string fewer_text(const JobState& state);
/// "the time limit of 60 s is reached: ranks save and end".
[[nodiscard]] std::string time_limit_text(const JobState& state);
[[nodiscard]] std::string not_empty_text(const JobState& state);
/// "agent 1 (node7) was lost".
[[nodiscard]] std::string agent_text(const JobState& state, int agent,
                                     std::string_view what);

}  // namespace catena::launcher
