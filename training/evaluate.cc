#include "training/evaluate.h"

#include <algorithm>

#include "training/step.h"

namespace catena {

Validation::Validation(const data::Dataset& dataset,
                       const data::SamplerOptions& options,
                       const Config& config)
    : micro_rows_(std::max<std::int64_t>(1, config.train.micro_batch_tokens /
                                                config.data.sequence /
                                                config.chunks)) {
  data::SamplerOptions fixed = options;
  fixed.shuffle = false;
  data::Sampler sampler(dataset, fixed);
  sampler.next_without_wrapping(config.validation.rows, batch_);
}

Validation::Result Validation::run(Model& model, Chunk& chunk) {
  Result result{0, batch_.trained_tokens, batch_.rows};
  for (std::int64_t row = 0; row < batch_.rows; row += micro_rows_) {
    result.loss += model.evaluate(
        tokens_of(batch_, row, std::min(micro_rows_, batch_.rows - row)),
        chunk);
  }
  result.loss /=
      static_cast<double>(std::max<std::int64_t>(1, batch_.trained_tokens));
  return result;
}

double Validation::probe(Model& model, Chunk& chunk) {
  const Tokens row =
      tokens_of(batch_, 0, std::min<std::int64_t>(1, batch_.rows));
  std::int64_t trained = 0;
  for (std::int64_t i = row.row_offsets.front(); i < row.row_offsets.back();
       ++i) {
    trained += batch_.targets[static_cast<std::size_t>(i)] >= 0;
  }
  return model.evaluate(row, chunk) /
         static_cast<double>(std::max<std::int64_t>(1, trained));
}

}  // namespace catena
