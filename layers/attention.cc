#include "layers/attention.h"

namespace catena {

std::int64_t rope_size(const AttentionConfig& attention) {
  return attention.kind == "mla" ? attention.qk_rope_size : attention.head_size;
}

namespace internal {

bool interleaved(const ModelConfig& config) {
  if (config.rope.layout == "auto") return config.attention.kind == "mla";
  return config.rope.layout == "interleaved";
}

void turn(Chunk& chunk, const RopeTable& table, bool interleaved, bool inverse,
          TensorView x) {
  chunk.kernels()(Rope{.x = x,
                       .position = chunk.positions,
                       .cosine = table.cosine.view(),
                       .sine = table.sine.view(),
                       .interleaved = interleaved,
                       .inverse = inverse});
}

void attend(Chunk& chunk, std::int64_t layer, double scale,
            AttentionLayer::Saved& saved) {
  const std::int64_t heads = saved.q.size(1);
  TensorView keys = saved.k, values = saved.v;
  if (!chunk.caches.empty()) {
    KeyValueCache& cache = chunk.caches[static_cast<std::size_t>(layer)];
    const std::int64_t known = chunk.past + chunk.tokens;
    CATENA_CHECK(known <= cache.keys.view().size(0),
                 "[attention] {} tokens in a cache of {}", known,
                 cache.keys.view().size(0));
    const auto fresh = [&](const Tensor& all) {
      return all.view().slice(0, chunk.past, chunk.tokens);
    };
    chunk.kernels()(Copy{.from = saved.k, .to = fresh(cache.keys)});
    chunk.kernels()(Copy{.from = saved.v, .to = fresh(cache.values)});
    keys = cache.keys.view().slice(0, 0, known);
    values = cache.values.view().slice(0, 0, known);
  }
  saved.out =
      chunk.keep(chunk.compute(), {chunk.tokens, heads, values.size(2)});
  saved.log_sum_exp = chunk.keep(chunk.wide(), {heads, chunk.tokens});
  chunk.kernels()(Attention{.q = saved.q,
                            .k = keys,
                            .v = values,
                            .first = chunk.first,
                            .last = chunk.last,
                            .out = saved.out,
                            .log_sum_exp = saved.log_sum_exp,
                            .scale = scale,
                            .key_pairs = chunk.key_pairs});
}

}  // namespace internal
}  // namespace catena
