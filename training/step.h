#pragma once

#include <memory>
#include <vector>

#include "layers/model.h"
#include "training/config.h"
#include "training/data/sampler.h"
#include "training/metrics.h"
#include "training/optimizer.h"

namespace catena {

/// The rows of a batch, as the model takes them. Borrows the batch.
[[nodiscard]] Tokens tokens_of(const data::Batch& batch, std::int64_t first_row,
                               std::int64_t rows);

/// One optimizer step: accumulation over micro-batches, checks, clipping,
/// AdamW. Every loss is divided by counts of the whole batch, so that
/// micro-batches, chunks and ranks do not show: every rank is given the same
/// batch, takes its run of each micro-batch's rows, and ends with the same
/// report.
///   step.compute(batch, number, report);
///   step.apply(report)  or  step.discard()
/// Thread rule: one thread.
class Step {
 public:
  Step(Model& model, Optimizer& optimizer, const Config& config);

  /// Gradients, and the report's step, loss, norm, tokens and routes; no
  /// weight is changed. Loss or norm may come out as not finite.
  /// Throws: Error(kInternal) if choices were lost: the sum of loads of a
  /// router is not tokens * top_k.
  void compute(const data::Batch& batch, std::int64_t number,
               StepReport& report);
  /// Moves the weights by the gradients of compute(), clipped.
  void apply(const StepReport& report);
  /// Forgets the gradients of compute().
  void discard();

  /// Takes the memory of all chunks beforehand.
  void reserve(const std::vector<ChunkMemory>& memory);
  /// Who looks at what all chunks compute; null: nobody. Borrowed.
  void set_observer(Observer* observer) {
    for (const auto& chunk : chunks_) chunk->observer = observer;
  }
  /// What the arenas of all chunks took at their peak.
  [[nodiscard]] std::int64_t activation_bytes() const;
  /// One of the chunks, for other work between steps.
  [[nodiscard]] Chunk& chunk() { return *chunks_.front(); }

  /// Computes the batch again, looking at every tensor.
  /// Throws: Error(kNonFinite) in any case, naming the first tensor that is
  /// not finite.
  [[noreturn]] void diagnose(const data::Batch& batch, std::int64_t number);

 private:
  /// Returns whether every loss was finite. One rank stops at the first that
  /// is not; several go on, since others wait for them.
  bool accumulate(const data::Batch& batch);
  /// Calls work(rows of this rank, tokens of all) for every micro-batch.
  template <class Work>
  void for_each_micro_batch(const data::Batch& batch, const Work& work) const;
  void check_loads(const StepReport& report) const;
  void report_ranks(StepReport& report) const;

  Model& model_;
  Optimizer& optimizer_;
  const Config& config_;
  Ranks* ranks_;
  std::int64_t micro_rows_;  ///< of a rank
  LossScale scale_;
  std::vector<std::unique_ptr<Chunk>> chunks_;
};

}  // namespace catena
