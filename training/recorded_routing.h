#pragma once

#include <array>
#include <map>
#include <span>
#include <tuple>
#include <vector>

#include "layers/chunk.h"
#include "runtime/arena.h"
#include "training/data/sampler.h"
#include "training/route_file.h"

namespace catena {

/// The routes of a step, as ranks of any layout would have exchanged them: for
/// ranks that compute nothing (the meta backend). Rows are cut into
/// accumulation steps, ranks and chunks as training cuts them, and the copies
/// that go from rank to rank are counted by the kernel that counts them there.
///   routing.set_step(step);
///   for each rank: routing.set_rank(rank); train on routing.batch()
/// Thread rule: one thread.
class RecordedRouting : public Observer, public ModelledRouting {
 public:
  /// Borrows `config`.
  RecordedRouting(const Config& config, const Mesh& mesh,
                  const Placements& placements, const DispatchRules& rules);

  [[nodiscard]] const DispatchRules& rules() const { return rules_; }
  /// Borrows it.
  void set_step(const RoutedStep& step);
  void set_rank(int rank) { rank_ = rank; }
  /// Rows as long as the step's, of no particular tokens.
  [[nodiscard]] const data::Batch& batch() const { return batch_; }

  /// Rows that every rank of the world serves in a pass over the step's chosen
  /// experts: [ranks], of one layer and iteration.
  [[nodiscard]] std::vector<double> rows(std::int64_t layer,
                                         std::int64_t iteration);

  /// Notes which accumulation step a chunk is in.
  void routed(const Chunk& chunk, std::int64_t layer, std::int64_t iteration,
              const Routed& routes) override;
  void count(const Tag& tag, ModelledCounts& counts) override;
  void count_crossing(const Tag& tag, std::vector<std::int64_t>& out,
                      std::vector<std::int64_t>& in) override;

 private:
  /// Of one exchange of a group.
  struct Counts {
    std::vector<std::int64_t> rows;  ///< [to]
    std::int64_t rounds = 1;
    /// [from, to of its node, rounds]: copies up to the end of each.
    std::vector<std::int32_t> ends;
    std::vector<std::int64_t> round_rows;  ///< [to, rounds]
    /// [from, nodes]: copies of tokens, where nodes are crossed.
    std::vector<std::int64_t> crossing;
  };
  /// accumulation step, group, chunk, layer, iteration
  using Key = std::array<std::int64_t, 5>;

  const Counts& counts(const Key& key);
  [[nodiscard]] const Counts& counts(const Tag& tag);
  /// Rows that go from one rank to parts: ranks of its node, or nodes.
  struct Home {
    std::vector<std::int32_t> copies, rows;  ///< [to]
    std::vector<std::int32_t> before;        ///< as PartitionRows::before
    std::vector<std::int32_t> kept;          ///< as PartitionRows::kept
  };
  /// index [tokens, top_k]: experts, or -1.
  void partition(std::span<const std::int32_t> index, TensorView owner,
                 std::int64_t parts, Home& home);
  /// Chosen experts of the tokens of a rank of a group: [tokens, top_k].
  [[nodiscard]] std::span<const std::int32_t> chosen(const Key& key,
                                                     int home) const;
  void cross(const Key& key, Counts& counts);
  /// What relays took in: [tokens, top_k] each.
  void gather_guests();
  void cut_rounds(Counts& counts);
  /// [experts] int32, of a rank of a group: as Ranks::server(), or
  /// Ranks::node_server().
  [[nodiscard]] TensorView server(std::int64_t layer, int home, bool nodes);
  /// Tokens of a rank's chunk.
  [[nodiscard]] RowRange tokens(std::int64_t micro_batch, int rank,
                                std::int64_t chunk) const;
  [[nodiscard]] std::int64_t micro_batches() const;

  const Config& config_;
  RouteShape shape_;
  Mesh mesh_;
  Placements placements_;
  DispatchRules rules_;
  std::unique_ptr<Backend> backend_;  ///< that counts
  Arena scratch_;
  std::map<std::tuple<std::int64_t, int, bool>, Tensor> servers_;
  const RoutedStep* step_ = nullptr;
  data::Batch batch_;
  std::map<Key, Counts> counts_;
  std::vector<Home> homes_, crossing_;             ///< while they are counted
  std::vector<std::vector<std::int32_t>> guests_;  ///< of each relay
  int rank_ = 0;
  std::vector<std::int64_t> micro_batch_;  ///< of each chunk under way
};

}  // namespace catena
