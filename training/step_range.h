#pragma once

#include <cstdint>
#include <limits>
#include <string>

namespace catena {

/// Steps of a run, from `first` (1 is the very first) to `last`, both of them.
struct StepRange {
  std::int64_t first = 1, last = std::numeric_limits<std::int64_t>::max();

  [[nodiscard]] bool holds(std::int64_t step) const {
    return first <= step && step <= last;
  }
};

/// "A:B", either of which may be missing, or one step. `said`: how the user
/// gave it, such as "--record-steps 7:3", for what is wrong with it.
/// Throws: Error(kUsage).
[[nodiscard]] StepRange parse_steps(const std::string& text,
                                    const std::string& said);

}  // namespace catena
