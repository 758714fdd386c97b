#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <optional>

#include "runtime/backend.h"

namespace catena {

/// How ranks treat the rows that are dispatched to experts. The same on all.
struct DispatchRules {
  /// Rows of experts that a rank takes at once, of one chunk, layer and
  /// iteration, and keeps until backward. A token's rows are never parted: a
  /// budget below top_k is one of top_k.
  std::int64_t row_budget = std::numeric_limits<std::int64_t>::max();
  /// Type in which rows travel, float32 or bfloat16; nothing: that which is
  /// computed in. Rows that are float64 stay so.
  std::optional<DType> wire = std::nullopt;

  /// Type in which a rank's sums over its experts travel, where `compute` is
  /// the type of activations.
  [[nodiscard]] DType sum_type(DType compute) const;
  /// Type in which activations themselves do: a wider one would tell no more.
  [[nodiscard]] DType row_type(DType compute) const;

  [[nodiscard]] std::int64_t budget(std::int64_t top_k) const {
    return std::max(row_budget, top_k);
  }
  /// Rounds in which a rank takes so many rows: one, if they are within its
  /// budget.
  [[nodiscard]] std::int64_t rounds(std::int64_t rows,
                                    std::int64_t top_k) const;

  /// Copies that one home sends to one rank.
  struct Copies {
    std::int64_t count = 0;
    /// [count] of the backend: rows of earlier ones.
    const std::int32_t* before = nullptr;
    std::int64_t base = 0;  ///< rows that homes before this one send there
    std::int64_t rows = 0;  ///< that all homes send there
  };
  /// ends[round], of the backend: copies up to the end of each round. A copy
  /// belongs to the round in which its first row falls; where all rows are
  /// within the budget, to round 0.
  void cut(Backend& backend, const Copies& copies, std::int64_t top_k,
           std::int64_t rounds, std::int32_t* ends) const;
};

}  // namespace catena
