#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include "launcher/messages.h"

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
  bool killed = false;
  std::optional<Time> kill_at = {};
};

/// A signal to send: SIGTERM to the process, SIGKILL to its whole group.
struct SendSignal {
  int signal;
};
using RankActions = std::vector<SendSignal>;

/// A line of the rank's control pipe, as launcher/contract.h has them; others
/// are ignored. Returns whether it was news.
bool hear(RankState& state, std::string_view line);

/// It is to end: at once, or within `grace`.
[[nodiscard]] RankActions stop(RankState& state, bool at_once, Duration grace,
                               Time now);

/// When tick() has something to do next.
[[nodiscard]] std::optional<Time> next_deadline(const RankState& state);
[[nodiscard]] RankActions tick(RankState& state, Time now);

/// Its process has been reaped (or did not start: process 0, code 126 or 127).
/// Returns false if it had been before.
bool reap(RankState& state, int code, int signal, std::string last_words);

}  // namespace catena::launcher
