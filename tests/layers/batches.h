#pragma once

#include <cstdint>
#include <vector>

#include "layers/chunk.h"
#include "runtime/base/random.h"

namespace catena::testing {

/// Rows of packed documents, with everything that Tokens borrows.
struct Batch {
  std::vector<std::int32_t> ids, targets, positions, first;
  std::vector<std::int64_t> row_offsets{0};

  [[nodiscard]] Tokens tokens() const {
    return {ids, targets, positions, first, row_offsets};
  }
  [[nodiscard]] std::int64_t size() const {
    return static_cast<std::int64_t>(ids.size());
  }
  [[nodiscard]] std::int64_t trained() const {
    std::int64_t count = 0;
    for (const std::int32_t target : targets) count += target >= 0;
    return count;
  }
  /// What the loss of this batch alone is divided by.
  [[nodiscard]] LossScale scale() const {
    return {.per_trained_token = 1 / static_cast<double>(trained()),
            .per_sequence = 1 / static_cast<double>(tokens().rows()),
            .per_token = 1 / static_cast<double>(size()),
            .per_batch = 1};
  }
};

using Documents = std::vector<std::int64_t>;  ///< lengths, of one row

/// Adds a row of documents of random tokens. Every token but a document's
/// last has its successor as target; every seventh is not trained.
inline void add_row(Batch& batch, const Documents& lengths,
                    std::int64_t vocabulary, std::uint64_t seed) {
  const Random random(seed, batch.ids.size());
  std::uint64_t drawn = 0;
  for (const std::int64_t length : lengths) {
    const auto first = static_cast<std::int32_t>(batch.ids.size());
    for (std::int64_t i = 0; i < length; ++i) {
      const auto id = static_cast<std::int32_t>(
          random.uniform(drawn++) * static_cast<double>(vocabulary));
      if (i > 0) batch.targets.back() = drawn % 7 == 0 ? -1 : id;
      batch.ids.push_back(id);
      batch.targets.push_back(-1);
      batch.positions.push_back(static_cast<std::int32_t>(i));
      batch.first.push_back(first);
    }
  }
  batch.row_offsets.push_back(batch.size());
}

/// Uneven rows of several documents, one of them a single token.
inline Batch packed_batch(std::int64_t vocabulary, std::uint64_t seed = 3) {
  Batch batch;
  add_row(batch, {5, 3, 1}, vocabulary, seed);
  add_row(batch, {1}, vocabulary, seed);
  add_row(batch, {7}, vocabulary, seed);
  add_row(batch, {2, 2, 2, 5}, vocabulary, seed);
  return batch;
}

/// The rows [begin, end) as a batch of their own.
inline Batch some_rows(const Batch& all, std::int64_t begin, std::int64_t end) {
  Batch part;
  const std::int64_t from = all.row_offsets[static_cast<std::size_t>(begin)];
  for (std::int64_t row = begin; row < end; ++row) {
    const auto at = static_cast<std::size_t>(row);
    for (std::int64_t i = all.row_offsets[at]; i < all.row_offsets[at + 1];
         ++i) {
      const auto token = static_cast<std::size_t>(i);
      part.ids.push_back(all.ids[token]);
      part.targets.push_back(all.targets[token]);
      part.positions.push_back(all.positions[token]);
      part.first.push_back(static_cast<std::int32_t>(all.first[token] - from));
    }
    part.row_offsets.push_back(part.size());
  }
  return part;
}

}  // namespace catena::testing
