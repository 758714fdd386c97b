#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace catena {

/// Which ranks of an expert group hold which experts. Every expert is held at
/// least once; one that is held by several is replicated. A rank may hold
/// none.
class Placement {
 public:
  /// Runs of experts, as even as whole experts allow; earlier ranks hold one
  /// more: 63 on 8 ranks are seven times 8 and 7.
  [[nodiscard]] static Placement contiguous(std::int64_t experts, int ranks);
  /// Expert e on rank e % ranks.
  [[nodiscard]] static Placement round_robin(std::int64_t experts, int ranks);

  /// holders[expert]: the ranks that hold it.
  /// Throws: Config, naming an expert that nobody holds, or a rank that is
  /// named twice or does not exist.
  Placement(std::vector<std::vector<int>> holders, int ranks);

  [[nodiscard]] std::int64_t experts() const {
    return static_cast<std::int64_t>(holders_.size());
  }
  [[nodiscard]] int ranks() const { return static_cast<int>(held_.size()); }
  /// Ascending.
  [[nodiscard]] std::span<const int> holders(std::int64_t expert) const {
    return holders_[static_cast<std::size_t>(expert)];
  }
  /// Ascending.
  [[nodiscard]] std::span<const std::int64_t> held(int rank) const {
    return held_[static_cast<std::size_t>(rank)];
  }
  /// Who serves tokens whose home is `home`: that rank itself if it holds the
  /// expert, else one of the holders, by the home's number. Where nodes of
  /// `of_node` ranks are crossed first (parallel/crossing.h), so is the node
  /// chosen, and then its rank, for the relay there.
  [[nodiscard]] int server(std::int64_t expert, int home,
                           int of_node = 1) const;
  /// Its node.
  [[nodiscard]] int server_node(std::int64_t expert, int home,
                                int of_node) const;
  /// The rank that serves what `relay` dispatches; -1 if none of its node
  /// holds the expert.
  [[nodiscard]] int server_inside(std::int64_t expert, int relay,
                                  int of_node) const;
  /// Experts of which `rank` serves tokens whose home is `home`.
  [[nodiscard]] std::int64_t served(int rank, int home, int of_node = 1) const;

 private:
  std::vector<std::vector<int>> holders_;
  std::vector<std::vector<std::int64_t>> held_;
};

/// Of every layer that shares experts: one placement for all, or one each.
class Placements {
 public:
  Placements(Placement all)  // NOLINT: one placement is all there is to say
      : of_layers_{std::move(all)} {}
  /// Over one number of ranks, of one number of experts.
  explicit Placements(std::vector<Placement> of_layers);

  /// How many are kept: 1, or one for every layer.
  [[nodiscard]] std::size_t size() const { return of_layers_.size(); }
  /// That of a layer, from 0.
  [[nodiscard]] const Placement& operator[](std::int64_t layer) const {
    return of_layers_[size() == 1 ? 0 : static_cast<std::size_t>(layer)];
  }
  /// The fewest and the most experts that a rank holds of a layer.
  [[nodiscard]] std::pair<std::size_t, std::size_t> held_by_ranks() const;
  /// The first of the ranks that hold the most experts of all layers together.
  [[nodiscard]] int fullest() const;
  [[nodiscard]] int ranks() const { return of_layers_[0].ranks(); }
  [[nodiscard]] std::int64_t experts() const { return of_layers_[0].experts(); }

 private:
  std::vector<Placement> of_layers_;
};

}  // namespace catena
