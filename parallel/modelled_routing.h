#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "parallel/tag.h"

namespace catena {

/// What one exchange of a rank brings, where messages carry nothing.
struct ModelledCounts {
  std::int64_t rounds = 1;
  /// Every round is like the first, the only one that is told of.
  bool alike = false;
  /// [ranks, rounds]: copies to, and guests from each rank up to the end of
  /// each round.
  std::vector<std::int64_t> sent_ends, received_ends;
  std::vector<std::int64_t> rows;  ///< [rounds]: that this rank's experts serve

  [[nodiscard]] std::int64_t rows_of(std::int64_t round) const {
    return rows[told(round)];
  }
  /// Up to the end of a round, or, where rounds are alike, of that one.
  [[nodiscard]] std::int64_t sent(std::size_t rank, std::int64_t round) const {
    return sent_ends[rank * rows.size() + told(round)];
  }
  [[nodiscard]] std::int64_t received(std::size_t rank,
                                      std::int64_t round) const {
    return received_ends[rank * rows.size() + told(round)];
  }

 private:
  [[nodiscard]] std::size_t told(std::int64_t round) const {
    return alike ? 0 : static_cast<std::size_t>(round);
  }
};

/// Tells ranks whose messages carry nothing (parallel/meta) what is sent where.
class ModelledRouting {
 public:
  virtual ~ModelledRouting() = default;
  /// Of the exchange `tag`, for this rank among those of its group.
  virtual void count(const Tag& tag, ModelledCounts& counts) = 0;
  /// The same of its way between nodes (parallel/crossing.h): copies to, and
  /// guests from each node.
  virtual void count_crossing(const Tag& tag, std::vector<std::int64_t>& out,
                              std::vector<std::int64_t>& in) = 0;
};

/// Of tokens that choose top_k of `experts` at random, how many choose at
/// least one of `served` certain ones: tokens * (1 - prod over i < top_k of
/// (experts - served - i) / (experts - i)), rounded up.
[[nodiscard]] std::int64_t balanced_copies(std::int64_t tokens,
                                           std::int64_t top_k,
                                           std::int64_t served,
                                           std::int64_t experts);

}  // namespace catena
