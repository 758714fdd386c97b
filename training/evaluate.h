#pragma once

#include <optional>
#include <vector>

#include "layers/model.h"
#include "training/config.h"
#include "training/data/sampler.h"

namespace catena {

/// Mean cross entropy over the trained tokens of a fixed set of rows: the
/// first `rows` of a data set, in its order. The same rows every time. The
/// chunk is borrowed for its memory. With several ranks all call these
/// together, each computes some of the rows, and all get the same result.
class Validation {
 public:
  Validation(const data::Dataset& dataset, const data::SamplerOptions& options,
             const Config& config);

  struct Result {
    double loss = 0;
    std::int64_t trained_tokens = 0, rows = 0;
  };
  [[nodiscard]] Result run(Model& model, Chunk& chunk);
  /// run(), row by row, with the standard error of the loss: that of a ratio,
  /// rows being drawn independently,
  ///   sqrt(R / (R - 1) * sum_r (L_r - loss n_r)^2) / sum_r n_r;
  /// of a single row nobody knows it.
  /// Throws: Error(kData) if no token of the rows is trained on.
  struct Estimate {
    double loss = 0;
    std::optional<double> standard_error;
    std::int64_t trained_tokens = 0, rows = 0;
  };
  [[nodiscard]] Estimate run_by_rows(Model& model, Chunk& chunk);
  /// The mean over the first row alone: a number that tells weights apart,
  /// cheap enough to form with every checkpoint.
  [[nodiscard]] double probe(Model& model, Chunk& chunk);

 private:
  struct Sum {
    double loss = 0;
    std::int64_t trained = 0;
  };
  [[nodiscard]] Sum row(Model& model, Chunk& chunk, std::int64_t index);
  /// Sum of losses of these rows, shared out over ranks.
  [[nodiscard]] double loss_of(Model& model, Chunk& chunk,
                               std::int64_t first_row, std::int64_t rows);

  data::Batch batch_;
  std::int64_t micro_rows_;
};

}  // namespace catena
