#include "training/route_recorder.h"

#include <algorithm>

#include "runtime/base/log.h"

namespace catena {

RouteRecorder::RouteRecorder(const RoutingFiles& files,
                             const ModelConfig& model, Ranks* ranks)
    : files_(files), shape_(RouteShape::of(model)), ranks_(ranks) {
  if (files.replay.has_value()) {
    replay_.emplace(*files.replay);
    replay_->check_shape(shape_);
  }
  if (files.record.has_value() && (ranks == nullptr || ranks->rank() == 0)) {
    writer_.emplace(*files.record, shape_);
  }
}

void RouteRecorder::begin(const data::Batch& batch, std::int64_t number) {
  const std::uint64_t hash = hash64(std::as_bytes(std::span(batch.tokens)));
  if (replay_.has_value()) {
    replay_->read(number, replayed_);
    if (replayed_.tokens_hash != hash ||
        replayed_.row_offsets != batch.row_offsets) {
      fail(ErrorKind::kData,
           "{}: step {} is of other tokens than this run's; replay with the "
           "same data, data.sequence, train.batch_tokens and train.seed",
           replay_->name(), number);
    }
  }
  recording_ = files_.record.has_value() && number >= files_.first &&
               number <= files_.last;
  if (!recording_) return;
  recorded_.step = number;
  recorded_.tokens_hash = hash;
  recorded_.row_offsets = batch.row_offsets;
  // Zero: what ranks wrote is put together by summing.
  recorded_.experts.assign(
      batch.tokens.size() * static_cast<std::size_t>(shape_.choices()), 0);
}

std::int32_t* RouteRecorder::at(RoutedStep& step, const Chunk& chunk,
                                std::int64_t layer,
                                std::int64_t iteration) const {
  const std::int64_t cell = layer * shape_.iterations + iteration;
  return step.experts.data() +
         (cell * step.tokens() + chunk.first_token) * shape_.top_k;
}

TensorView RouteRecorder::forced_routes(const Chunk& chunk, std::int64_t layer,
                                        std::int64_t iteration) {
  if (!replay_.has_value() || !chunk.training) return {};
  return {at(replayed_, chunk, layer, iteration),
          DType::kInt32,
          {chunk.tokens, shape_.top_k}};
}

void RouteRecorder::routed(const Chunk& chunk, std::int64_t layer,
                           std::int64_t iteration, const Routed& routes) {
  if (!recording_ || !chunk.training) return;
  std::copy_n(routes.index.as<std::int32_t>(), routes.index.elements(),
              at(recorded_, chunk, layer, iteration));
}

void RouteRecorder::end() {
  if (!recording_) return;
  if (ranks_ != nullptr) {
    const auto count = static_cast<std::int64_t>(recorded_.experts.size());
    wait(ranks_->world().all_reduce(
        {}, {recorded_.experts.data(), DType::kInt32, {count}}));
  }
  if (writer_.has_value()) writer_->write(recorded_);
}

void RouteRecorder::finish() {
  if (!writer_.has_value()) return;
  writer_->finish();
  log::info("routing  {} steps in {}", writer_->steps(),
            files_.record->string());
}

}  // namespace catena
