#pragma once

#include <cstdint>
#include <span>

#include "parallel/communicator.h"

namespace catena {

/// hosts[r]: the same number where ranks share a host. How many of them do,
/// where each host has as many ranks, one after another; else all are taken
/// for neighbours.
[[nodiscard]] int ranks_per_node(std::span<const std::uint64_t> hosts);

/// How many ranks are alike, and the sum of their values.
struct Alike {
  int count = 0;
  std::int64_t sum = 0;
};

/// Of the ranks of `all` that say the same word as this one, itself among them.
/// They call this together. Throws: as communicators.
[[nodiscard]] Alike find_alike(Communicator& all, std::uint64_t word,
                               std::int64_t value);

/// As ranks_per_node(), of the hosts of all ranks of a wire, which call this
/// together before they make anything else of it. Rank r says `host`. Throws:
/// as communicators.
[[nodiscard]] int find_ranks_per_node(Transport& transport, std::uint64_t host,
                                      Communicator::Deadline deadline);

}  // namespace catena
