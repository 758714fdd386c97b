#include "parallel/placement.h"

#include <algorithm>

#include "runtime/base/error.h"

namespace catena {

Placement Placement::contiguous(std::int64_t experts, int ranks) {
  std::vector<std::vector<int>> holders;
  for (int rank = 0; rank < ranks; ++rank) {
    const std::int64_t count = experts / ranks + (rank < experts % ranks);
    holders.insert(holders.end(), static_cast<std::size_t>(count), {rank});
  }
  return {std::move(holders), ranks};
}

Placement Placement::round_robin(std::int64_t experts, int ranks) {
  std::vector<std::vector<int>> holders;
  for (std::int64_t expert = 0; expert < experts; ++expert) {
    holders.push_back({static_cast<int>(expert % ranks)});
  }
  return {std::move(holders), ranks};
}

Placement::Placement(std::vector<std::vector<int>> holders, int ranks)
    : holders_(std::move(holders)), held_(static_cast<std::size_t>(ranks)) {
  for (std::size_t expert = 0; expert < holders_.size(); ++expert) {
    std::vector<int>& of_expert = holders_[expert];
    if (of_expert.empty()) {
      fail(ErrorKind::kConfig, "placement: nobody holds expert {}", expert);
    }
    std::sort(of_expert.begin(), of_expert.end());
    const auto twice = std::adjacent_find(of_expert.begin(), of_expert.end());
    if (twice != of_expert.end()) {
      fail(ErrorKind::kConfig, "placement: rank {} holds expert {} twice",
           *twice, expert);
    }
    if (of_expert.front() < 0 || of_expert.back() >= ranks) {
      fail(ErrorKind::kConfig,
           "placement: expert {} is on rank {}, but ranks are 0 to {}", expert,
           of_expert.front() < 0 ? of_expert.front() : of_expert.back(),
           ranks - 1);
    }
    for (const int rank : of_expert) {
      held_[static_cast<std::size_t>(rank)].push_back(
          static_cast<std::int64_t>(expert));
    }
  }
}

int Placement::server(std::int64_t expert, int home, int of_node) const {
  const int node = server_node(expert, home, of_node);
  return server_inside(expert, node * of_node + home % of_node, of_node);
}

int Placement::server_node(std::int64_t expert, int home, int of_node) const {
  std::vector<int> nodes;
  for (const int rank : holders(expert)) {
    const int node = rank / of_node;
    if (node == home / of_node) return node;
    if (nodes.empty() || nodes.back() != node) nodes.push_back(node);
  }
  return nodes[static_cast<std::size_t>(home / of_node) % nodes.size()];
}

int Placement::server_inside(std::int64_t expert, int relay,
                             int of_node) const {
  std::vector<int> inside;
  for (const int rank : holders(expert)) {
    if (rank == relay) return rank;
    if (rank / of_node == relay / of_node) inside.push_back(rank);
  }
  if (inside.empty()) return -1;
  return inside[static_cast<std::size_t>(relay % of_node) % inside.size()];
}

std::int64_t Placement::served(int rank, int home, int of_node) const {
  std::int64_t count = 0;
  for (std::int64_t expert = 0; expert < experts(); ++expert) {
    count += server(expert, home, of_node) == rank;
  }
  return count;
}

Placements::Placements(std::vector<Placement> of_layers)
    : of_layers_(std::move(of_layers)) {
  CATENA_CHECK(!of_layers_.empty(), "[placements] of no layer");
  for (const Placement& layer : of_layers_) {
    CATENA_CHECK(layer.ranks() == ranks() && layer.experts() == experts(),
                 "[placements] {} experts on {} ranks beside {} on {}",
                 layer.experts(), layer.ranks(), experts(), ranks());
  }
}

std::pair<std::size_t, std::size_t> Placements::held_by_ranks() const {
  std::size_t least = of_layers_[0].held(0).size(), most = least;
  for (const Placement& layer : of_layers_) {
    for (int rank = 0; rank < layer.ranks(); ++rank) {
      least = std::min(least, layer.held(rank).size());
      most = std::max(most, layer.held(rank).size());
    }
  }
  return {least, most};
}

int Placements::fullest() const {
  std::vector<std::size_t> held(static_cast<std::size_t>(ranks()));
  for (const Placement& layer : of_layers_) {
    for (int rank = 0; rank < ranks(); ++rank) {
      held[static_cast<std::size_t>(rank)] += layer.held(rank).size();
    }
  }
  return static_cast<int>(std::max_element(held.begin(), held.end()) -
                          held.begin());
}

}  // namespace catena
