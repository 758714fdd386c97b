#include <cmath>

#include "layers/attention.h"

namespace catena {
namespace {

constexpr double kInnerEpsilon = 1e-6;

class LatentAttention final : public AttentionLayer {
 public:
  LatentAttention(ParameterSet& set, const std::string& name,
                  const ModelConfig& config,
                  std::shared_ptr<const RopeTable> table)
      : a_(config.attention),
        interleaved_(internal::interleaved(config)),
        scale_(rope_score_factor(config.rope) /
               std::sqrt(static_cast<double>(qk_size()))),
        table_(std::move(table)) {
    const double range = config.initializer_range;
    const std::int64_t hidden = config.hidden, queries = a_.heads * qk_size();
    if (a_.q_lora_rank > 0) {
      q_down_ = Linear(set, name + ".q_a_proj", hidden, a_.q_lora_rank, range);
      q_norm_ = RmsNormLayer(set, name + ".q_a_layernorm", a_.q_lora_rank,
                             kInnerEpsilon);
      q_up_ = Linear(set, name + ".q_b_proj", a_.q_lora_rank, queries, range);
    } else {
      q_up_ = Linear(set, name + ".q_proj", hidden, queries, range);
    }
    kv_down_ = Linear(set, name + ".kv_a_proj_with_mqa", hidden,
                      a_.kv_lora_rank + a_.qk_rope_size, range);
    kv_norm_ = RmsNormLayer(set, name + ".kv_a_layernorm", a_.kv_lora_rank,
                            kInnerEpsilon);
    kv_up_ = Linear(set, name + ".kv_b_proj", a_.kv_lora_rank,
                    a_.heads * (a_.qk_nope_size + a_.v_size), range);
    out_ = Linear(set, name + ".o_proj", a_.heads * a_.v_size, hidden, range);
  }

  void forward(Chunk& chunk, std::int64_t layer, TensorView x, TensorView out,
               Saved& saved) const override {
    const std::int64_t tokens = chunk.tokens;
    const DType dtype = chunk.compute();
    saved.x = x;
    TensorView query_input = x;
    if (a_.q_lora_rank > 0) {
      saved.q_latent = chunk.keep(dtype, {tokens, a_.q_lora_rank});
      saved.q_normed = chunk.keep(dtype, {tokens, a_.q_lora_rank});
      q_down_.forward(chunk, x, saved.q_latent);
      q_norm_.forward(chunk, saved.q_latent, saved.q_normed, saved.q_norm);
      query_input = saved.q_normed;
    }
    const TensorView q = chunk.keep(dtype, {tokens, a_.heads * qk_size()});
    q_up_.forward(chunk, query_input, q);
    saved.q = q.split_last(a_.heads, qk_size());
    internal::turn(chunk, *table_, interleaved_, false, rope_part(saved.q));
    make_keys_and_values(chunk, x, saved);
    internal::attend(chunk, layer, scale_, saved);
    out_.forward(chunk, flat(saved.out), out);
  }

  void backward(Chunk& chunk, Saved& saved, TensorView d_out,
                TensorView d_x) const override {
    const ArenaScope scope(chunk.scratch);
    const std::int64_t tokens = chunk.tokens;
    const DType dtype = chunk.compute();
    const TensorView d_heads = chunk.temporary(dtype, saved.out.shape());
    out_.backward(chunk, flat(saved.out), d_out, flat(d_heads));
    const TensorView d_q = chunk.temporary(dtype, saved.q.shape());
    const TensorView d_k = chunk.temporary(dtype, saved.k.shape());
    const TensorView d_kv =
        chunk.temporary(dtype, {tokens, a_.heads, a_.qk_nope_size + a_.v_size});
    chunk.kernels()(
        AttentionGradient{.q = saved.q,
                          .k = saved.k,
                          .v = saved.v,
                          .first = chunk.first,
                          .out = saved.out,
                          .log_sum_exp = saved.log_sum_exp,
                          .d_out = d_heads,
                          .d_q = d_q,
                          .d_k = d_k,
                          .d_v = d_kv.slice(2, a_.qk_nope_size, a_.v_size),
                          .scale = scale_,
                          .key_pairs = chunk.key_pairs});
    keys_and_values_backward(chunk, saved, d_k, d_kv, d_x);
    queries_backward(chunk, saved, d_q, d_x);
  }

  [[nodiscard]] KeyValueCache make_cache(Backend& backend, DType dtype,
                                         std::int64_t capacity) const override {
    return {Tensor(backend, dtype, {capacity, a_.heads, qk_size()}),
            Tensor(backend, dtype, {capacity, a_.heads, a_.v_size})};
  }

 private:
  [[nodiscard]] std::int64_t qk_size() const {
    return a_.qk_nope_size + a_.qk_rope_size;
  }
  [[nodiscard]] TensorView rope_part(TensorView heads) const {
    return heads.slice(2, a_.qk_nope_size, a_.qk_rope_size);
  }
  [[nodiscard]] TensorView nope_part(TensorView heads) const {
    return heads.slice(2, 0, a_.qk_nope_size);
  }
  [[nodiscard]] static TensorView flat(TensorView heads) {
    return heads.reshape({heads.size(0), heads.size(1) * heads.size(2)});
  }

  void make_keys_and_values(Chunk& chunk, TensorView x, Saved& saved) const {
    const std::int64_t tokens = chunk.tokens;
    const DType dtype = chunk.compute();
    saved.kv_latent =
        chunk.keep(dtype, {tokens, a_.kv_lora_rank + a_.qk_rope_size});
    kv_down_.forward(chunk, x, saved.kv_latent);
    saved.kv_normed = chunk.keep(dtype, {tokens, a_.kv_lora_rank});
    kv_norm_.forward(chunk, saved.kv_latent.slice(1, 0, a_.kv_lora_rank),
                     saved.kv_normed, saved.kv_norm);
    const TensorView kv = chunk.keep(dtype, {tokens, kv_up_.out()});
    kv_up_.forward(chunk, saved.kv_normed, kv);
    const TensorView heads =
        kv.split_last(a_.heads, a_.qk_nope_size + a_.v_size);
    const TensorView k_rope =
        saved.kv_latent.slice(1, a_.kv_lora_rank, a_.qk_rope_size);
    internal::turn(chunk, *table_, interleaved_, false,
                   k_rope.split_last(1, a_.qk_rope_size));
    saved.k = chunk.keep(dtype, {tokens, a_.heads, qk_size()});
    chunk.kernels()(Copy{.from = nope_part(heads), .to = nope_part(saved.k)});
    chunk.kernels()(
        Copy{.from = k_rope.repeat_middle(a_.heads), .to = rope_part(saved.k)});
    saved.v = heads.slice(2, a_.qk_nope_size, a_.v_size);
  }

  void keys_and_values_backward(Chunk& chunk, const Saved& saved,
                                TensorView d_k, TensorView d_kv,
                                TensorView d_x) const {
    const TensorView d_latent =
        chunk.temporary(chunk.compute(), saved.kv_latent.shape());
    const TensorView d_rope =
        d_latent.slice(1, a_.kv_lora_rank, a_.qk_rope_size);
    chunk.kernels()(SumMiddle{.x = rope_part(d_k), .out = d_rope});
    internal::turn(chunk, *table_, interleaved_, true,
                   d_rope.split_last(1, a_.qk_rope_size));
    chunk.kernels()(Copy{.from = nope_part(d_k), .to = nope_part(d_kv)});
    const TensorView d_normed =
        chunk.temporary(chunk.compute(), saved.kv_normed.shape());
    kv_up_.backward(chunk, saved.kv_normed, flat(d_kv), d_normed);
    kv_norm_.backward(chunk, saved.kv_norm, d_normed,
                      d_latent.slice(1, 0, a_.kv_lora_rank));
    kv_down_.backward(chunk, saved.x, d_latent, d_x);
  }

  void queries_backward(Chunk& chunk, const Saved& saved, TensorView d_q,
                        TensorView d_x) const {
    internal::turn(chunk, *table_, interleaved_, true, rope_part(d_q));
    if (a_.q_lora_rank == 0) {
      q_up_.backward(chunk, saved.x, flat(d_q), d_x, true);
      return;
    }
    const TensorView d_latent =
        chunk.temporary(chunk.compute(), saved.q_latent.shape());
    q_up_.backward(chunk, saved.q_normed, flat(d_q), d_latent);
    q_norm_.backward(chunk, saved.q_norm, d_latent, d_latent);
    q_down_.backward(chunk, saved.x, d_latent, d_x, true);
  }

  AttentionConfig a_;
  bool interleaved_;
  double scale_;
  std::shared_ptr<const RopeTable> table_;
  Linear q_down_, q_up_, kv_down_, kv_up_, out_;
  RmsNormLayer q_norm_, kv_norm_;
};

}  // namespace

std::unique_ptr<AttentionLayer> make_latent_attention(
    ParameterSet& set, const std::string& name, const ModelConfig& config,
    std::shared_ptr<const RopeTable> table) {
  return std::make_unique<LatentAttention>(set, name, config, std::move(table));
}

}  // namespace catena
