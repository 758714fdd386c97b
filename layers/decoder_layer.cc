#include "layers/decoder_layer.h"

namespace catena {

DecoderLayer::DecoderLayer(ParameterSet& set, std::int64_t layer,
                           const ModelConfig& config,
                           std::shared_ptr<const RopeTable> table, Ranks* ranks)
    : name_(fmt::format("model.layers.{}", layer)),
      layer_(layer),
      outer_residual_(true),
      input_norm_(set, name_ + ".input_layernorm", config.hidden,
                  config.norm_epsilon),
      post_norm_(set, name_ + ".post_attention_layernorm", config.hidden,
                 config.norm_epsilon) {
  attention_ = config.attention.kind == "mla"
                   ? make_latent_attention(set, name_ + ".self_attn", config,
                                           std::move(table))
                   : make_grouped_query_attention(set, name_ + ".self_attn",
                                                  config, std::move(table));
  if (layer < config.dense_layers) {
    mlp_ = std::make_unique<SwiGluMlp>(set, name_ + ".mlp", config.hidden,
                                       config.dense_intermediate,
                                       config.initializer_range);
  } else {
    chain_ = std::make_unique<Chain>(set, name_ + ".mlp", config,
                                     layer - config.dense_layers, ranks);
    outer_residual_ = config.chain.outer_residual();
  }
}

Task DecoderLayer::forward(Chunk& chunk, TensorView h, TensorView out,
                           const RoutingStatistics& statistics,
                           Saved& saved) const {
  const Shape shape = h.shape();
  const TensorView normed = chunk.keep(chunk.compute(), shape);
  const TensorView a = chunk.keep(chunk.compute(), shape);
  saved.x = chunk.keep(chunk.compute(), shape);

  input_norm_.forward(chunk, h, normed, saved.input_norm);
  attention_->forward(chunk, layer_, normed, a, saved.attention);
  if (chunk.observer != nullptr) {
    chunk.computed(name_ + ".self_attn.output", a);
  }
  post_norm_.forward(chunk, a, saved.x, saved.post_norm, h);
  if (chain_) {
    co_await chain_->forward(chunk, saved.x, out, statistics, saved.chain);
  } else {
    mlp_->forward(chunk, saved.x, out, saved.mlp);
  }
  if (outer_residual_) chunk.kernels()(Add{.a = out, .b = a, .out = out});
  if (chunk.observer != nullptr) chunk.computed(name_ + ".output", out);
}

Task DecoderLayer::backward(Chunk& chunk, const RoutingStatistics& statistics,
                            Saved& saved, TensorView d) const {
  const ArenaScope scope(chunk.scratch);
  const TensorView d_x = chunk.temporary(chunk.compute(), d.shape());
  // The gradient of `out` goes into the chain and, with the outer residual,
  // past it; backward of the chain uses up its own copy.
  if (chain_) {
    const TensorView d_chain = chunk.temporary(chunk.compute(), d.shape());
    chunk.kernels()(Copy{.from = d, .to = d_chain});
    co_await chain_->backward(chunk, statistics, saved.chain, d_chain, d_x);
  } else {
    mlp_->backward(chunk, saved.x, saved.mlp, d, d_x, false);
  }
  // d becomes the gradient of `a`, then that of `h`.
  post_norm_.backward(chunk, saved.post_norm, d_x, d, outer_residual_);
  attention_->backward(chunk, saved.attention, d, d_x);
  input_norm_.backward(chunk, saved.input_norm, d_x, d, true);
  if (chunk.observer != nullptr) chunk.computed(name_ + ".input.gradient", d);
}

}  // namespace catena
