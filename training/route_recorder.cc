#include "training/route_recorder.h"

#include <algorithm>

#include "runtime/base/log.h"

namespace catena {

void set_tokens(const data::Batch& batch, std::int64_t number,
                RoutedStep& step) {
  step.step = number;
  step.tokens_hash = hash64(std::as_bytes(std::span(batch.tokens)));
  step.row_offsets = batch.row_offsets;
}

void read_routes(const RouteFile& file, const data::Batch& batch,
                 std::int64_t number, RoutedStep& step) {
  RoutedStep wanted;
  set_tokens(batch, number, wanted);
  file.read(number, step);
  if (step.tokens_hash == wanted.tokens_hash &&
      step.row_offsets == wanted.row_offsets) {
    return;
  }
  fail(ErrorKind::kData,
       "{}: step {} is of other tokens than this run's; replay with the same "
       "data, data.sequence, train.batch_tokens and train.seed",
       file.name(), number);
}

void expect_choices(const ModelConfig& model) {
  if (!model.router.force_balanced) return;
  fail(ErrorKind::kUsage,
       "--replay-routing: model.router.force_balanced deals the experts out; "
       "leave one of the two away");
}

RouteFile open_routes(const std::filesystem::path& path,
                      const ModelConfig& model) {
  expect_choices(model);
  RouteFile file(path);
  file.check_shape(RouteShape::of(model));
  return file;
}

RouteRecorder::RouteRecorder(const RoutingFiles& files,
                             const ModelConfig& model, Ranks* ranks)
    : files_(files), shape_(RouteShape::of(model)), ranks_(ranks) {
  if (files.replay.has_value()) {
    replay_.emplace(open_routes(*files.replay, model));
  }
  if (files.record.has_value() && (ranks == nullptr || ranks->rank() == 0)) {
    writer_.emplace(*files.record, shape_);
  }
}

void RouteRecorder::begin(const data::Batch& batch, std::int64_t number) {
  if (replay_.has_value()) read_routes(*replay_, batch, number, replayed_);
  recording_ = files_.record.has_value() && files_.steps.holds(number);
  if (!recording_) return;
  set_tokens(batch, number, recorded_);
  // Zero: what ranks wrote is put together by summing.
  recorded_.experts.assign(
      batch.tokens.size() * static_cast<std::size_t>(shape_.choices()), 0);
}

TensorView RouteRecorder::forced_routes(const Chunk& chunk, std::int64_t layer,
                                        std::int64_t iteration) {
  if (!replay_.has_value() || !chunk.training) return {};
  return {replayed_.at(shape_, layer, iteration, chunk.first_token),
          DType::kInt32,
          {chunk.tokens, shape_.top_k}};
}

void RouteRecorder::routed(const Chunk& chunk, std::int64_t layer,
                           std::int64_t iteration, const Routed& routes) {
  if (!recording_ || !chunk.training) return;
  std::copy_n(routes.index.as<std::int32_t>(), routes.index.elements(),
              recorded_.at(shape_, layer, iteration, chunk.first_token));
}

void RouteRecorder::end() {
  if (!recording_) return;
  if (ranks_ != nullptr) {
    const auto count = static_cast<std::int64_t>(recorded_.experts.size());
    wait(ranks_->world().all_reduce(
        {}, {recorded_.experts.data(), DType::kInt32, {count}}));
  }
  if (!writer_.has_value()) return;
  try {
    writer_->write(recorded_);
  } catch (const Error& error) {
    log::warning("{}; training goes on without recording routes", error.what());
    writer_.reset();
  }
}

void RouteRecorder::finish() {
  if (!writer_.has_value()) return;
  writer_->finish();
  log::info("routing  {} steps in {}", writer_->steps(),
            files_.record->string());
}

}  // namespace catena
