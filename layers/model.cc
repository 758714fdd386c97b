#include "layers/model.h"

#include <algorithm>
#include <functional>

namespace catena {

struct Model::Saved {
  std::vector<DecoderLayer::Saved> layers;
  std::vector<TensorView> inputs;  ///< [tokens, hidden] of each layer
  TensorView d;                    ///< [tokens, hidden]: gradient of the stream
};

Model::Model(Backend& backend, const ModelConfig& config, Precision precision,
             Ranks* ranks)
    : config_(config), ranks_(ranks), parameters_(backend, precision) {
  const Shape shape{config.vocabulary, config.hidden};
  embedding_ =
      &parameters_.add({.shape = shape,
                        .parts = {{"model.embed_tokens.weight", 0, shape}},
                        .initializer = Initializer::kNormal,
                        .range = config.initializer_range});
  const auto table = std::make_shared<const RopeTable>(
      backend, precision.wide(), config.rope, rope_size(config.attention),
      config.max_positions);
  for (std::int64_t layer = 0; layer < config.layers; ++layer) {
    parameters_.add_group([&] {
      layers_.push_back(std::make_unique<DecoderLayer>(parameters_, layer,
                                                       config, table, ranks));
    });
  }
  parameters_.add_group([&] {
    head_ = std::make_unique<Head>(parameters_, config,
                                   config.tied_head ? embedding_ : nullptr);
  });
  statistics_ = make_statistics();
}

std::unique_ptr<RoutingStatistics> Model::make_statistics() {
  return std::make_unique<RoutingStatistics>(
      backend(), parameters_.precision().wide(), config_.chain_layers(),
      config_.chain.iterations, config_.chain.routed_experts,
      config_.chain.top_k);
}

Model::~Model() = default;

std::unique_ptr<Chunk> Model::make_chunk() {
  auto chunk = std::make_unique<Chunk>(
      backend(), parameters_.precision(),
      ranks_ != nullptr ? &ranks_->wire_memory() : nullptr);
  if (config_.router.force_balanced) {
    chunk->balanced_k = config_.chain.top_k;
    chunk->balanced_experts = config_.chain.routed_experts;
  }
  return chunk;
}

std::vector<Chain*> Model::chains() {
  std::vector<Chain*> result;
  for (const auto& layer : layers_) {
    if (layer->chain() != nullptr) result.push_back(layer->chain());
  }
  return result;
}

Task Model::forward(Chunk& chunk, Saved& saved) {
  const Shape shape{chunk.tokens, config_.hidden};
  saved.layers.resize(layers_.size());
  saved.inputs.clear();
  TensorView h = chunk.keep(chunk.compute(), shape);
  chunk.kernels()(
      GatherRows{.source = embedding_->weight(), .index = chunk.ids, .out = h});
  chunk.computed("model.embed_tokens.output", h);
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    saved.inputs.push_back(h);
    const TensorView next = chunk.keep(chunk.compute(), shape);
    const Arena::Mark mark = chunk.activations.mark();
    co_await layers_[i]->forward(chunk, h, next, *statistics_, saved.layers[i]);
    if (chunk.recompute) chunk.activations.rewind(mark);
    h = next;
  }
  saved.d = chunk.keep(chunk.compute(), shape);
  head_->forward(chunk, h, statistics_->loss(), saved.d);
}

Task Model::backward(Chunk& chunk, Saved& saved) {
  for (std::size_t i = layers_.size(); i-- > 0;) {
    const ArenaScope scope(chunk.activations);
    if (chunk.recompute) {
      const TensorView again = chunk.keep(chunk.compute(), saved.d.shape());
      co_await layers_[i]->forward(chunk, saved.inputs[i], again,
                                   *recomputed_statistics_, saved.layers[i]);
    }
    co_await layers_[i]->backward(chunk, *statistics_, saved.layers[i],
                                  saved.d);
    leave(i + 1);
  }
  chunk.kernels()(ScatterAddRows{
      .rows = saved.d, .index = chunk.ids, .out = embedding_->gradient()});
  leave(0);
}

void Model::leave(std::size_t group) {
  if (taker_ != nullptr && --chunks_in_[group] == 0) {
    taker_->take(group);
  }
}

void Model::train(const Tokens& tokens, const LossScale& scale,
                  std::vector<std::unique_ptr<Chunk>>& chunks,
                  GradientTaker* taker) {
  const auto count = static_cast<std::int64_t>(chunks.size());
  while (saved_.size() < chunks.size()) {
    saved_.push_back(std::make_unique<Saved>());
  }
  statistics_->clear_batch();
  for (std::int64_t i = 0; i < count; ++i) {
    Chunk& chunk = *chunks[static_cast<std::size_t>(i)];
    const RowRange share = share_of(tokens.rows(), i, count);
    chunk.number = i;
    chunk.reports_batch = i == 0 && (ranks_ == nullptr || ranks_->rank() == 0);
    chunk.training = true;
    chunk.scale = scale;
    if (chunk.recompute && !recomputed_statistics_) {
      recomputed_statistics_ = make_statistics();
    }
    chunk.load(tokens, share.begin, share.rows());
  }
  // All forwards come first: the balance loss over a batch needs every
  // chunk's choices.
  // Frames live in the chunks' memory, so no task may outlive this call, not
  // even when another one threw.
  struct Clear {
    std::vector<Task>& tasks;
    ~Clear() { tasks.clear(); }
  };
  taker_ = taker;
  chunks_in_.assign(parameters_.groups(), chunks.size());
  for (const bool forward_pass : {true, false}) {
    if (!forward_pass && taker_ != nullptr) {
      // A tied head has no weight of its own, but a norm.
      taker_->take(layers_.size() + 1);
    }
    const Clear clear{tasks_};
    for (std::size_t i = 0; i < chunks.size(); ++i) {
      tasks_.push_back(forward_pass ? forward(*chunks[i], *saved_[i])
                                    : backward(*chunks[i], *saved_[i]));
    }
    pipeline_.run(tasks_);
    if (forward_pass && ranks_ != nullptr &&
        config_.router.auxiliary_scope == "batch") {
      statistics_->sum_batch(ranks_->world());
    }
  }
}

TensorView Model::infer(Chunk& chunk) {
  const Shape shape{chunk.tokens, config_.hidden};
  TensorView h = chunk.keep(chunk.compute(), shape);
  TensorView next = chunk.keep(chunk.compute(), shape);
  chunk.kernels()(
      GatherRows{.source = embedding_->weight(), .index = chunk.ids, .out = h});
  chunk.computed("model.embed_tokens.output", h);
  DecoderLayer::Saved saved;
  for (const auto& layer : layers_) {
    const ArenaScope scope(chunk.activations);
    Task task = layer->forward(chunk, h, next, *statistics_, saved);
    pipeline_.run({&task, 1});
    std::swap(h, next);
  }
  return h;
}

double Model::evaluate(const Tokens& tokens, Chunk& chunk) {
  chunk.training = false;
  chunk.load(tokens, 0, tokens.rows());
  const TensorView h = infer(chunk);
  const TensorView loss = chunk.keep(DType::kFloat64, {1});
  chunk.kernels()(Fill{.x = loss});
  head_->forward(chunk, h, loss, {});
  return read_value(backend(), loss);
}

TensorView Model::logits(const Tokens& tokens, Chunk& chunk) {
  chunk.training = false;
  chunk.load(tokens, 0, tokens.rows());
  const TensorView h = infer(chunk);
  const TensorView result =
      chunk.keep(chunk.wide(), {chunk.tokens, config_.vocabulary});
  head_->logits(chunk, h, result);
  return result;
}

TensorView Model::extend(std::span<const std::int32_t> ids, std::int64_t past,
                         std::vector<KeyValueCache>& caches, Chunk& chunk) {
  CATENA_CHECK(!ids.empty(), "[model] extend by nothing");
  chunk.load_cached(ids, past, caches);
  const TensorView h = infer(chunk);
  const TensorView result = chunk.keep(chunk.wide(), {1, config_.vocabulary});
  head_->logits(chunk, h.slice(0, chunk.tokens - 1, 1), result);
  return result;
}

std::vector<KeyValueCache> Model::make_caches(std::int64_t capacity) const {
  std::vector<KeyValueCache> caches;
  for (const auto& layer : layers_) {
    caches.push_back(layer->attention().make_cache(
        parameters_.backend(), parameters_.precision().compute, capacity));
  }
  return caches;
}

void Model::update_router_biases() {
  if (!config_.router.correction_bias) return;
  std::int64_t number = 0;
  for (const auto& layer : layers_) {
    if (layer->chain() != nullptr) update_biases(*layer->chain(), number++);
  }
}

void Model::update_biases(Chain& chain, std::int64_t number) {
  std::vector<double>& load = loads_.load;
  for (std::int64_t t = 0; t < config_.chain.iterations; ++t) {
    statistics_->summarize(number, t, iteration_loads_);
    // A shared gate answers for all its iterations together.
    if (config_.chain.independent_gates || t == 0) {
      load = iteration_loads_.load;
    } else {
      std::transform(load.begin(), load.end(), iteration_loads_.load.begin(),
                     load.begin(), std::plus<>());
    }
    if (config_.chain.independent_gates || t + 1 == config_.chain.iterations) {
      chain.router(t).update_bias(backend(), load);
    }
  }
}

}  // namespace catena
