#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "launcher/messages.h"

namespace catena::launcher {

/// Why a generation failed: a rank's end, or (rank -1) something else.
struct Cause {
  int rank = -1;
  int code = 0;           ///< what the job ends with, if it ends for this
  std::string text = {};  ///< "was killed by signal 9 (Killed)"
  std::string host = {};  ///< where that rank was; "": not known
  /// Where other ranks missed that one: "all_to_all_v (dispatch, layer 2,
  /// iteration 1, chunk 0)"; "" if none said so.
  std::string exchange = {};
  RankEnding ending = {};  ///< of that rank
};

/// Whether this is no success: any signal, any code but 0 and 75 (stopped,
/// saved), and code 0 before the rank's work was done.
[[nodiscard]] bool is_failure(const RankEnding& ending);

/// What it was, for people, and its code: the rank's own, 128 + n for signal
/// n, 70 for a code 0 that came too early.
[[nodiscard]] Cause cause_of(const RankEnding& ending);

/// The one that the others follow from; none if all ended well. A rank that
/// ended by itself goes before one that hung, that before one that says it lost
/// another, and that before one that had been asked to end; else the order of
/// `endings` decides.
/// Where all that is known is that ranks lost others, it is the one for whom
/// most of those that said whom waited: itself, or through ranks that waited
/// for it in a row; if that one had nothing to say. Of two that waited for each
/// other neither is to blame: both are named.
[[nodiscard]] std::optional<Cause> first_cause(
    std::span<const RankEnding> endings);

/// Whether the same may go well another time: deaths by signal, codes of the
/// program's own, ranks that did not meet (69), lost each other or met an
/// internal error or a failing device (70). Not what another start would meet
/// again: command line, data, memory, storage, configuration, loss.
[[nodiscard]] bool may_go_well(int code);

/// The restarts of a job so far. Pure: judge() says what comes next.
struct RestartPolicy {
  int most_restarts = 3;
  int most_without_progress = 3;  ///< generations in a row

  int restarts = 0;
  int without_progress = 0;
  std::int64_t checkpoint_step = 0;  ///< newest when this generation began
};

/// After a generation has failed.
struct Verdict {
  bool restart = false;
  Duration wait{};  ///< before it
  int code = 0;     ///< of the job, without a restart
  std::string why = {};
};
/// `checkpoint_step`: of the newest checkpoint there is now. Progress is one
/// that is newer than when the generation began. The first restart after
/// progress is at once; then waits are 1, 2, 4 ... 30 s.
[[nodiscard]] Verdict judge(RestartPolicy& policy, const Cause& cause,
                            std::int64_t checkpoint_step);

}  // namespace catena::launcher
