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
/// micro-batches and chunks do not show.
/// Thread rule: one thread.
class Step {
 public:
  Step(Model& model, Optimizer& optimizer, const Config& config);

  /// Fills the report's step, loss, norms, tokens and routes.
  /// Throws: Error(kNonFinite) before any weight is changed, naming the first
  /// tensor that is not finite; Error(kInternal) if choices were lost: the sum
  /// of loads of a router is not tokens * top_k.
  void run(const data::Batch& batch, std::int64_t number, StepReport& report);

 private:
  void accumulate(const data::Batch& batch, std::int64_t number);
  /// Throws Error(kNonFinite) in any case.
  [[noreturn]] void diagnose(const data::Batch& batch, std::int64_t number);
  void check_loads(const StepReport& report) const;

  Model& model_;
  Optimizer& optimizer_;
  const Config& config_;
  std::int64_t micro_rows_;
  LossScale scale_;
  std::vector<std::unique_ptr<Chunk>> chunks_;
};

}  // namespace catena
