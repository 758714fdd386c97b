#pragma once

#include <array>
#include <map>
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

 private:
  /// Of one exchange of a group.
  struct Counts {
    std::vector<std::int64_t> rows;  ///< [to]
    std::int64_t rounds = 1;
    /// [from, to, rounds]: copies up to the end of each.
    std::vector<std::int32_t> ends;
    std::vector<std::int64_t> round_rows;  ///< [to, rounds]
  };
  /// accumulation step, group, chunk, layer, iteration
  using Key = std::array<std::int64_t, 5>;

  const Counts& counts(const Key& key);
  /// What one rank sends, by rank.
  struct Home {
    std::vector<std::int32_t> copies, rows;  ///< [to]
    std::vector<std::int32_t> before;        ///< as PartitionRows::before
  };
  void count_home(const Key& key, int home, Home& counts);
  void cut_rounds(Counts& counts);
  /// [experts] int32: who serves the tokens of `home`.
  [[nodiscard]] TensorView server(std::int64_t layer, int home);
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
  std::map<std::pair<std::int64_t, int>, Tensor> servers_;
  const RoutedStep* step_ = nullptr;
  data::Batch batch_;
  std::map<Key, Counts> counts_;
  std::vector<Home> homes_;  ///< while they are counted
  int rank_ = 0;
  std::vector<std::int64_t> micro_batch_;  ///< of each chunk under way
};

}  // namespace catena
