#pragma once

#include <vector>

#include "layers/model.h"
#include "training/config.h"
#include "training/data/sampler.h"

namespace catena {

/// Mean cross entropy over the trained tokens of a fixed set of rows: the
/// first `rows` of a data set, in its order. The same rows every time.
class Validation {
 public:
  Validation(const data::Dataset& dataset, const data::SamplerOptions& options,
             const Config& config);

  struct Result {
    double loss = 0;
    std::int64_t trained_tokens = 0, rows = 0;
  };
  [[nodiscard]] Result run(Model& model);

 private:
  data::Batch batch_;
  std::int64_t micro_rows_;
  std::unique_ptr<Chunk> chunk_;
};

}  // namespace catena
