#include "bench/random_rows.h"

#include <algorithm>

#include "runtime/base/error.h"
#include "runtime/base/random.h"
#include "training/route_recorder.h"

namespace catena::bench {
namespace {

std::vector<std::int64_t> full_rows(const Config& config) {
  std::vector<std::int64_t> offsets;
  for (std::int64_t row = 0; row <= config.rows_per_step(); ++row) {
    offsets.push_back(row * config.data.sequence);
  }
  return offsets;
}

void check_rows(const RoutedStep& step, const Config& config,
                const std::string& file) {
  const std::vector<std::int64_t>& offsets = step.row_offsets;
  bool fits =
      static_cast<std::int64_t>(offsets.size()) == config.rows_per_step() + 1;
  for (std::size_t row = 1; row < offsets.size(); ++row) {
    fits &= offsets[row] - offsets[row - 1] <= config.data.sequence;
  }
  if (fits) return;
  fail(ErrorKind::kData,
       "{}: step {} has {} rows, not {} of at most {} tokens; set "
       "train.batch_tokens and data.sequence to what they were",
       file, step.step, offsets.size() - 1, config.rows_per_step(),
       config.data.sequence);
}

}  // namespace

RandomRows::RandomRows(const Config& config, const std::string& routes)
    : config_(config) {
  if (!routes.empty()) file_.emplace(open_routes(routes, config.model));
}

data::Batch RandomRows::next(std::int64_t number) {
  data::Batch batch;
  if (replays()) {
    const std::vector<std::int64_t> steps = file_->steps();
    const auto turn = static_cast<std::size_t>(number - 1) % steps.size();
    file_->read(steps[turn], step_);
    check_rows(step_, config_, file_->name());
    batch.row_offsets = step_.row_offsets;
  } else {
    batch.row_offsets = full_rows(config_);
  }
  const Random random(7, static_cast<std::uint64_t>(number));
  batch.rows = config_.rows_per_step();
  batch.sequence = config_.data.sequence;
  const auto vocabulary = static_cast<std::uint32_t>(config_.model.vocabulary);
  for (std::size_t row = 0; row + 1 < batch.row_offsets.size(); ++row) {
    const std::int64_t begin = batch.row_offsets[row];
    for (std::int64_t i = begin; i < batch.row_offsets[row + 1]; ++i) {
      const auto word = random.words(static_cast<std::uint64_t>(i))[0];
      batch.tokens.push_back(static_cast<std::int32_t>(word % vocabulary));
      batch.positions.push_back(static_cast<std::int32_t>(i - begin));
      batch.first.push_back(static_cast<std::int32_t>(begin));
    }
  }
  batch.targets.assign(batch.tokens.begin() + 1, batch.tokens.end());
  batch.targets.push_back(-1);
  batch.trained_tokens = static_cast<std::int64_t>(batch.tokens.size()) - 1;
  return batch;
}

TensorView RandomRows::forced_routes(const Chunk& chunk, std::int64_t layer,
                                     std::int64_t iteration) {
  if (!replays()) return {};
  const RouteShape& shape = file_->shape();
  return {step_.at(shape, layer, iteration, chunk.first_token),
          DType::kInt32,
          {chunk.tokens, shape.top_k}};
}

}  // namespace catena::bench
