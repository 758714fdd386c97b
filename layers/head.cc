#include "layers/head.h"

#include <algorithm>

namespace catena {
namespace {

// Large enough that the products run at full speed, and pass the weight and its
// gradient through memory few times; small beside the activations.
constexpr std::int64_t kBlockElements = std::int64_t{1} << 23;

std::int64_t block_rows(std::int64_t vocabulary) {
  return std::clamp<std::int64_t>(kBlockElements / vocabulary / 32 * 32, 512,
                                  2048);
}

}  // namespace

Head::Head(ParameterSet& set, const ModelConfig& config, Parameter* tied)
    : norm_(set, "model.norm", config.hidden, config.norm_epsilon),
      weight_(tied) {
  if (weight_ != nullptr) return;
  const Shape shape{config.vocabulary, config.hidden};
  weight_ = &set.add({.shape = shape,
                      .parts = {{"lm_head.weight", 0, shape}},
                      .initializer = Initializer::kNormal,
                      .range = config.initializer_range});
}

void Head::forward(Chunk& chunk, TensorView h, TensorView loss,
                   TensorView d_h) const {
  const ArenaScope scope(chunk.scratch);
  const std::int64_t vocabulary = weight_->spec().shape[0];
  const std::int64_t block = std::min(block_rows(vocabulary), chunk.tokens);
  const TensorView normed = chunk.temporary(chunk.compute(), h.shape());
  RmsNormLayer::Saved saved;
  norm_.forward(chunk, h, normed, saved);
  const TensorView losses = chunk.temporary(chunk.wide(), {chunk.tokens});
  const TensorView logits = chunk.temporary(chunk.wide(), {block, vocabulary});
  const bool rounded = chunk.training && chunk.compute() != chunk.wide();
  const TensorView narrow =
      rounded ? chunk.temporary(chunk.compute(), {block, vocabulary}) : logits;
  for (std::int64_t begin = 0; begin < chunk.tokens; begin += block) {
    const std::int64_t rows = std::min(block, chunk.tokens - begin);
    const TensorView x = normed.slice(0, begin, rows);
    const TensorView z = logits.slice(0, 0, rows);
    const TensorView d_z = narrow.slice(0, 0, rows);
    chunk.kernels()(
        Gemm{.a = x, .b = weight_->weight(), .c = z, .transpose_b = true});
    chunk.kernels()(
        CrossEntropy{.logits = z,
                     .target = chunk.targets.slice(0, begin, rows),
                     .loss = losses.slice(0, begin, rows),
                     .gradient = chunk.training ? d_z : TensorView(),
                     .scale = chunk.scale.per_trained_token});
    if (!chunk.training) continue;
    chunk.kernels()(Gemm{.a = d_z,
                         .b = x,
                         .c = weight_->gradient(),
                         .transpose_a = true,
                         .accumulate = true});
    chunk.kernels()(
        Gemm{.a = d_z, .b = weight_->weight(), .c = d_h.slice(0, begin, rows)});
  }
  const ArenaScope sum_scope(chunk.scratch);
  const TensorView part = chunk.temporary(DType::kFloat64, {1});
  chunk.kernels()(Sum{.x = losses, .out = part});
  chunk.kernels()(Add{.a = loss, .b = part, .out = loss});
  chunk.computed("loss", losses);
  if (chunk.training) norm_.backward(chunk, saved, d_h, d_h);
}

void Head::logits(Chunk& chunk, TensorView h, TensorView logits) const {
  const ArenaScope scope(chunk.scratch);
  const TensorView normed = chunk.temporary(chunk.compute(), h.shape());
  RmsNormLayer::Saved saved;
  norm_.forward(chunk, h, normed, saved);
  chunk.kernels()(Gemm{
      .a = normed, .b = weight_->weight(), .c = logits, .transpose_b = true});
}

}  // namespace catena
