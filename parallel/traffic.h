#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "parallel/tag.h"

namespace catena {

/// What a rank's collectives of one phase amounted to.
struct PhaseTraffic {
  std::int64_t collectives = 0;
  std::int64_t sent_bytes = 0;  ///< to other ranks
  /// From when the rank waited for them until they were finished; and from
  /// issue until then, less the time in which it waited for others; sums wait
  /// for one another, and begin when it is their turn.
  double exposed_seconds = 0, overlapped_seconds = 0;
};

/// The same of all phases.
struct Traffic {
  std::array<PhaseTraffic, kPhaseCount> phases;
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

}  // namespace catena
