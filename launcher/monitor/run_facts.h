#pragma once

#include <array>
#include <map>
#include <string>

#include "launcher/job_state.h"
#include "launcher/monitor/run_view.h"

namespace catena::launcher {

inline constexpr std::array<JobPhase, 11> kJobPhases = {
    JobPhase::kNew,        JobPhase::kStarting,  JobPhase::kRendezvous,
    JobPhase::kRunning,    JobPhase::kSaving,    JobPhase::kStopping,
    JobPhase::kRestarting, JobPhase::kSucceeded, JobPhase::kFailed,
    JobPhase::kPreempted,  JobPhase::kCancelled};

/// How many of kExchangePhases, from the first, move rows of tokens.
inline constexpr std::size_t kAllToAllPhases = 5;

/// What follows from RunView at a moment.
struct RunFacts {
  /// now: seconds of the epoch.
  RunFacts(const RunView& view, double now);

  std::int64_t generation = 0;  ///< 0: no job.json
  /// Number of them by cause: "signal_9", "code_1", "other".
  std::map<std::string, double> restarts = {}, failures = {};
  /// Connections that the launcher turned away, by reason; messages of other
  /// generations. Empty, and -1: not said.
  std::map<std::string, double> rejected = {};
  double stale = -1;
  double wall_seconds = 0;  ///< of the job; 0: no job.json
  double eta_seconds = 0;   ///< until train.steps; 0: unknown, or at the end
};

/// Least RankView::busy of the ranks that took a step; 0: none did.
[[nodiscard]] double fastest_rank(const RunView& view);

/// "waiting", "starting", "running", "failed", "lost", "stopped" or "done", as
/// job.json says; without one, "running" or "done".
[[nodiscard]] std::string rank_state(const RunView& view, int rank);

}  // namespace catena::launcher
