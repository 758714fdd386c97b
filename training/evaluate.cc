#include "training/evaluate.h"

#include <algorithm>
#include <cmath>

#include "runtime/base/error.h"
#include "training/step.h"

namespace catena {

Validation::Validation(const data::Dataset& dataset,
                       const data::SamplerOptions& options,
                       const Config& config)
    : micro_rows_(std::max<std::int64_t>(1, config.train.micro_batch_tokens /
                                                config.data.sequence /
                                                config.parallel.chunks)) {
  data::SamplerOptions fixed = options;
  fixed.shuffle = false;
  data::Sampler sampler(dataset, fixed);
  sampler.next_without_wrapping(config.validation.rows, batch_);
}

Validation::Result Validation::run(Model& model, Chunk& chunk) {
  Result result{0, batch_.trained_tokens, batch_.rows};
  const std::int64_t ranks =
      model.ranks() != nullptr ? model.ranks()->size() : 1;
  const std::int64_t at_once = micro_rows_ * ranks;
  for (std::int64_t row = 0; row < batch_.rows; row += at_once) {
    result.loss +=
        loss_of(model, chunk, row, std::min(at_once, batch_.rows - row));
  }
  result.loss /=
      static_cast<double>(std::max<std::int64_t>(1, batch_.trained_tokens));
  return result;
}

double Validation::loss_of(Model& model, Chunk& chunk, std::int64_t first_row,
                           std::int64_t rows) {
  Ranks* const ranks = model.ranks();
  if (ranks == nullptr) {
    return model.evaluate(tokens_of(batch_, first_row, rows), chunk);
  }
  const std::int64_t begin = rows * ranks->rank() / ranks->size();
  const std::int64_t end = rows * (ranks->rank() + 1) / ranks->size();
  double loss =
      model.evaluate(tokens_of(batch_, first_row + begin, end - begin), chunk);
  wait(ranks->world().all_reduce({}, {&loss, DType::kFloat64, {1}}));
  return loss;
}

Validation::Sum Validation::row(Model& model, Chunk& chunk,
                                std::int64_t index) {
  const Tokens row = tokens_of(batch_, index, 1);
  Sum sum{loss_of(model, chunk, index, 1), 0};
  for (std::int64_t i = row.row_offsets.front(); i < row.row_offsets.back();
       ++i) {
    sum.trained += batch_.targets[static_cast<std::size_t>(i)] >= 0;
  }
  return sum;
}

double Validation::probe(Model& model, Chunk& chunk) {
  if (batch_.rows == 0) return 0;
  const Sum first = row(model, chunk, 0);
  return first.loss /
         static_cast<double>(std::max<std::int64_t>(1, first.trained));
}

Validation::Estimate Validation::run_by_rows(Model& model, Chunk& chunk) {
  if (batch_.trained_tokens == 0) {
    fail(ErrorKind::kData,
         "data.validation: no token of its {} rows is trained on; take more "
         "rows, a longer data.sequence or data.loss = \"all\"",
         batch_.rows);
  }
  std::vector<Sum> rows;
  double loss = 0, trained = 0;
  for (std::int64_t index = 0; index < batch_.rows; ++index) {
    rows.push_back(row(model, chunk, index));
    loss += rows.back().loss;
    trained += static_cast<double>(rows.back().trained);
  }
  Estimate result{loss / trained, {}, batch_.trained_tokens, batch_.rows};
  double squares = 0;
  for (const Sum& sum : rows) {
    const double rest =
        sum.loss - result.loss * static_cast<double>(sum.trained);
    squares += rest * rest;
  }
  const auto count = static_cast<double>(rows.size());
  if (count > 1) {
    result.standard_error = std::sqrt(count / (count - 1) * squares) / trained;
  }
  return result;
}

}  // namespace catena
