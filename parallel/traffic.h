#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "parallel/tag.h"

namespace catena {

/// What a rank's collectives of one phase amounted to.
struct PhaseTraffic {
  std::int64_t collectives = 0;   ///< finished, and waited for
  std::int64_t sent_bytes = 0;    ///< to other ranks
  std::int64_t across_bytes = 0;  ///< of them, to ranks of other nodes
  /// In which the rank waited for one of them.
  double exposed_seconds = 0;
  /// In which one or more of them were under way (issued and not finished, as
  /// far as the rank had noticed) and the rank waited for no exchange, of any
  /// phase. A moment counts once, however many are under way.
  double overlapped_seconds = 0;
};

/// The same of all phases, in all communicators over a transport. Of each
/// phase, and of total(), exposed + overlapped seconds are at most the time
/// that has passed.
struct Traffic {
  std::array<PhaseTraffic, kPhaseCount> phases;
  /// As of a phase, of all: less than their sum, where several were under way.
  double overlapped_seconds = 0;
  /// Of dispatches: rounds after the first, in which all ranks of a group
  /// take part, and rows of this rank beyond its budget (DispatchRules).
  std::int64_t later_rounds = 0, rows_beyond_budget = 0;

  [[nodiscard]] PhaseTraffic& operator[](Phase phase) {
    return phases[static_cast<std::size_t>(phase)];
  }
  [[nodiscard]] const PhaseTraffic& operator[](Phase phase) const {
    return phases[static_cast<std::size_t>(phase)];
  }
  [[nodiscard]] PhaseTraffic total() const;
  Traffic& operator+=(const Traffic& other);
};

/// Counts the traffic of a rank, as its communicators tell of it. `now`: of
/// the transport, real or modelled seconds.
class TrafficCounter {
 public:
  /// across: to another node.
  void send(Phase phase, std::int64_t bytes, bool across) {
    traffic_[phase].sent_bytes += bytes;
    if (across) traffic_[phase].across_bytes += bytes;
  }
  /// An exchange is issued; then perhaps waited for, before it has ended.
  void begin(Phase phase, double now);
  void wait(Phase phase, double now);
  void end(Phase phase, bool waited_for, double now);
  /// It has ended, and the rank knows.
  void count(Phase phase) { ++traffic_[phase].collectives; }

  /// Since it was last taken; of what is under way, up to now.
  [[nodiscard]] Traffic take(double now);

 private:
  /// Enters the time since the last event.
  void pass(double now);

  using Counts = std::array<int, kPhaseCount>;
  Traffic traffic_;
  Counts under_way_{}, waited_for_{};
  double since_ = 0;
};

}  // namespace catena
