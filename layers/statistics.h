#pragma once

#include <vector>

#include "layers/chunk.h"
#include "parallel/communicator.h"

namespace catena {

/// What one chain layer's routers did in one iteration, over a step.
struct RouteSummary {
  std::vector<double> load;  ///< [experts] choices
  double tokens = 0;         ///< choices / top_k
  double entropy_nats = 0;   ///< mean over tokens
  double auxiliary_loss = 0, z_loss = 0;

  [[nodiscard]] double max_to_mean() const;
  [[nodiscard]] std::int64_t idle() const;
};

/// Counters of a step on the device, one set per (chain layer, iteration).
/// Cleared once a step, read once a step; chunks add to them in turn.
class RoutingStatistics {
 public:
  RoutingStatistics(Backend& backend, DType wide, std::int64_t layers,
                    std::int64_t iterations, std::int64_t experts,
                    std::int64_t top_k);

  void clear();
  /// Before the chunks of an accumulation step: forgets the sums that the
  /// balance loss over the batch is made of.
  void clear_batch();

  /// Sums over all ranks: of what clear() clears; of what the balance loss
  /// over the batch is made of.
  void sum(Communicator& ranks);
  void sum_batch(Communicator& ranks);

  /// Views for (layer, iteration), layers counted from the first chain layer.
  struct Cell {
    TensorView load;       ///< [1, experts] float64: exact beyond 2^24
    TensorView entropy;    ///< [1] float64, sum over tokens
    TensorView auxiliary;  ///< [1] W
    TensorView z;          ///< [1] float64, sum of squares over tokens
    TensorView batch_sums, batch_counts;  ///< [1, experts] W
    TensorView transitions;  ///< [experts, experts] int64, to iteration + 1
  };
  [[nodiscard]] Cell cell(std::int64_t layer, std::int64_t iteration) const;
  [[nodiscard]] TensorView loss() const { return loss_.view(); }

  [[nodiscard]] RouteSummary summary(std::int64_t layer,
                                     std::int64_t iteration) const;
  /// The same into one whose memory is used again.
  void summarize(std::int64_t layer, std::int64_t iteration,
                 RouteSummary& summary) const;
  /// [experts * experts] counts from `iteration` to the next, row-major.
  [[nodiscard]] std::vector<std::int64_t> transitions(
      std::int64_t layer, std::int64_t iteration) const;
  /// Sum of cross entropies over trained tokens since clear().
  [[nodiscard]] double total_loss() const;

  [[nodiscard]] std::int64_t layers() const { return layers_; }
  [[nodiscard]] std::int64_t iterations() const { return iterations_; }
  [[nodiscard]] std::int64_t experts() const { return experts_; }

 private:
  [[nodiscard]] std::int64_t number(std::int64_t layer,
                                    std::int64_t iteration) const {
    return layer * iterations_ + iteration;
  }

  Backend* backend_;
  std::int64_t layers_, iterations_, experts_, top_k_;
  Tensor load_, entropy_, auxiliary_, z_, sums_, counts_, transitions_, loss_;
};

/// sum [1] float64 += sum of x (or of its squares).
void add_sum(Chunk& chunk, TensorView x, TensorView sum, bool squares);

}  // namespace catena
