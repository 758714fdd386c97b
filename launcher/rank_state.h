#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "launcher/messages.h"
#include "launcher/rank_watch.h"

namespace catena::launcher {

/// One rank's process as its agent knows it: a pure state machine. Functions
/// take an event and the time, change the state, and return what is to be done;
/// they touch nothing else.
///
///   SPAWNED -> JOINED -> STEADY -> EXITED      (and from each to EXITED)
///
/// Invariants: at most one SIGTERM is sent, as a second one would end a rank
/// that is saving; nothing is sent to one that has EXITED.
struct RankState {
  enum class Phase {
    kSpawned,  ///< runs, and looks for the others
    kJoined,   ///< has met them all
    kSteady,   ///< takes steps
    kExited,   ///< reaped
  };
  Phase phase = Phase::kSpawned;
  RankEnding ending = {};
  std::int64_t step = 0;  ///< the last it said; ending.step: the furthest
  bool killed = false;
  std::optional<Time> kill_at = {};
  RankWatch watch = {};
};

/// A signal to send: to the process, and SIGKILL to its whole group.
struct SendSignal {
  int signal;
};
/// Something to be told of its silence, or its end; with kWarned and kAsked,
/// its stack is asked for.
struct Notice {
  RankSuspected::Verdict verdict;
  std::string text;
};
using RankAction = std::variant<SendSignal, Notice>;
using RankActions = std::vector<RankAction>;

/// A line of the rank's control pipe, as launcher/contract.h has them; others
/// are ignored.
[[nodiscard]] RankActions hear(RankState& state, std::string_view line,
                               SectionTimes& times, Time now);

/// It is to end: at once, or within `grace`.
[[nodiscard]] RankActions stop(RankState& state, bool at_once, Duration grace,
                               Time now);

/// It is to save and go on, or to say how it is; nothing where it says no
/// sections, as it would die of the signal.
[[nodiscard]] RankActions ask_to_save(const RankState& state);
[[nodiscard]] RankActions inspect(const RankState& state, Time now);

/// When tick() has something to do next.
[[nodiscard]] std::optional<Time> next_deadline(const RankState& state);
/// One that hangs is ended: within `grace`, of which it gets kHungGrace at
/// most.
[[nodiscard]] RankActions tick(RankState& state, const SectionTimes& times,
                               Duration grace, Time now);
inline constexpr std::chrono::seconds kHungGrace(5);

/// Its process has been reaped (or did not start: process 0, code as Spawned).
/// Returns false if it had been before.
bool reap(RankState& state, int code, int signal, std::string last_words);

}  // namespace catena::launcher
