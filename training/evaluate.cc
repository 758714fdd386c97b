#include "training/evaluate.h"

#include <algorithm>

#include "training/step.h"

namespace catena {

Validation::Validation(const data::Dataset& dataset,
                       const data::SamplerOptions& options,
                       const Config& config)
    : micro_rows_(std::max<std::int64_t>(
          1, config.train.micro_batch_tokens / config.data.sequence)) {
  data::SamplerOptions fixed = options;
  fixed.shuffle = false;
  data::Sampler sampler(dataset, fixed);
  sampler.next_without_wrapping(config.validation.rows, batch_);
}

Validation::Result Validation::run(Model& model) {
  if (!chunk_) chunk_ = model.make_chunk();
  Result result{0, batch_.trained_tokens, batch_.rows};
  for (std::int64_t row = 0; row < batch_.rows; row += micro_rows_) {
    result.loss += model.evaluate(
        tokens_of(batch_, row, std::min(micro_rows_, batch_.rows - row)),
        *chunk_);
  }
  result.loss /=
      static_cast<double>(std::max<std::int64_t>(1, batch_.trained_tokens));
  return result;
}

}  // namespace catena
