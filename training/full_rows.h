#pragma once

#include <cstdint>
#include <vector>

#include "layers/chunk.h"

namespace catena {

/// Full rows of one document each: the most that a step can cost.
struct FullRows {
  std::vector<std::int32_t> ids, targets, positions, first;
  std::vector<std::int64_t> row_offsets;

  FullRows(std::int64_t rows, std::int64_t sequence)
      : ids(static_cast<std::size_t>(rows * sequence)), targets(ids) {
    for (std::int64_t row = 0; row < rows; ++row) {
      row_offsets.push_back(row * sequence);
      for (std::int64_t i = 0; i < sequence; ++i) {
        positions.push_back(static_cast<std::int32_t>(i));
        first.push_back(static_cast<std::int32_t>(row * sequence));
      }
    }
    row_offsets.push_back(rows * sequence);
  }

  [[nodiscard]] Tokens tokens() const {
    return {ids, targets, positions, first, row_offsets};
  }
};

}  // namespace catena
