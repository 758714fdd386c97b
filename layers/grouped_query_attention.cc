#include <cmath>

#include "layers/attention.h"

namespace catena {
namespace {

class GroupedQueryAttention final : public AttentionLayer {
 public:
  GroupedQueryAttention(ParameterSet& set, const std::string& name,
                        const ModelConfig& config,
                        std::shared_ptr<const RopeTable> table)
      : a_(config.attention),
        interleaved_(internal::interleaved(config)),
        scale_(rope_score_factor(config.rope) /
               std::sqrt(static_cast<double>(a_.head_size))),
        table_(std::move(table)) {
    const double range = config.initializer_range;
    const std::int64_t queries = a_.heads * a_.head_size;
    const std::int64_t keys = a_.kv_heads * a_.head_size;
    q_ = Linear(set, name + ".q_proj", config.hidden, queries, range);
    k_ = Linear(set, name + ".k_proj", config.hidden, keys, range);
    v_ = Linear(set, name + ".v_proj", config.hidden, keys, range);
    if (normed()) {
      const bool head = a_.qk_norm == "head";
      q_norm_ =
          RmsNormLayer(set, name + ".q_norm", head ? a_.head_size : queries,
                       config.norm_epsilon);
      k_norm_ = RmsNormLayer(set, name + ".k_norm", head ? a_.head_size : keys,
                             config.norm_epsilon);
    }
    out_ = Linear(set, name + ".o_proj", queries, config.hidden, range);
  }

  void forward(Chunk& chunk, std::int64_t layer, TensorView x, TensorView out,
               Saved& saved) const override {
    saved.x = x;
    saved.q =
        project(chunk, q_, q_norm_, x, a_.heads, saved.q_raw, saved.q_norm);
    saved.k =
        project(chunk, k_, k_norm_, x, a_.kv_heads, saved.k_raw, saved.k_norm);
    internal::turn(chunk, *table_, interleaved_, false, saved.q);
    internal::turn(chunk, *table_, interleaved_, false, saved.k);
    const TensorView v = chunk.keep(chunk.compute(), {chunk.tokens, v_.out()});
    v_.forward(chunk, x, v);
    saved.v = v.split_last(a_.kv_heads, a_.head_size);
    internal::attend(chunk, layer, scale_, saved);
    out_.forward(chunk, flat(saved.out), out);
  }

  void backward(Chunk& chunk, Saved& saved, TensorView d_out,
                TensorView d_x) const override {
    const ArenaScope scope(chunk.scratch);
    const DType dtype = chunk.compute();
    const TensorView d_heads = chunk.temporary(dtype, saved.out.shape());
    out_.backward(chunk, flat(saved.out), d_out, flat(d_heads));
    const TensorView d_q = chunk.temporary(dtype, saved.q.shape());
    const TensorView d_k = chunk.temporary(dtype, saved.k.shape());
    const TensorView d_v = chunk.temporary(dtype, saved.v.shape());
    chunk.kernels()(AttentionGradient{.q = saved.q,
                                      .k = saved.k,
                                      .v = saved.v,
                                      .first = chunk.first,
                                      .out = saved.out,
                                      .log_sum_exp = saved.log_sum_exp,
                                      .d_out = d_heads,
                                      .d_q = d_q,
                                      .d_k = d_k,
                                      .d_v = d_v,
                                      .scale = scale_,
                                      .key_pairs = chunk.key_pairs});
    v_.backward(chunk, saved.x, flat(d_v), d_x);
    unproject(chunk, k_, k_norm_, saved.x, saved.k_norm, d_k, d_x);
    unproject(chunk, q_, q_norm_, saved.x, saved.q_norm, d_q, d_x);
  }

  [[nodiscard]] KeyValueCache make_cache(Backend& backend, DType dtype,
                                         std::int64_t capacity) const override {
    const Shape shape{capacity, a_.kv_heads, a_.head_size};
    return {Tensor(backend, dtype, shape), Tensor(backend, dtype, shape)};
  }

 private:
  [[nodiscard]] bool normed() const { return a_.qk_norm != "none"; }
  [[nodiscard]] static TensorView flat(TensorView heads) {
    return heads.reshape({heads.size(0), heads.size(1) * heads.size(2)});
  }
  /// Rows that one norm covers: a head, or all heads of a token.
  [[nodiscard]] TensorView norm_rows(TensorView x) const {
    const std::int64_t width =
        a_.qk_norm == "head" ? a_.head_size : x.elements() / x.size(0);
    return x.reshape({x.elements() / width, width});
  }

  TensorView project(Chunk& chunk, const Linear& linear,
                     const RmsNormLayer& norm, TensorView x, std::int64_t heads,
                     TensorView& raw, RmsNormLayer::Saved& saved) const {
    const Shape shape{chunk.tokens, heads * a_.head_size};
    TensorView result = chunk.keep(chunk.compute(), shape);
    linear.forward(chunk, x, result);
    if (normed() && chunk.tokens > 0) {
      raw = result;
      result = chunk.keep(chunk.compute(), shape);
      norm.forward(chunk, norm_rows(raw), norm_rows(result), saved);
    }
    return result.split_last(heads, a_.head_size);
  }

  void unproject(Chunk& chunk, const Linear& linear, const RmsNormLayer& norm,
                 TensorView x, const RmsNormLayer::Saved& saved, TensorView d,
                 TensorView d_x) const {
    internal::turn(chunk, *table_, interleaved_, true, d);
    if (normed() && chunk.tokens > 0) {
      norm.backward(chunk, saved, norm_rows(flat(d)), norm_rows(flat(d)));
    }
    linear.backward(chunk, x, flat(d), d_x, true);
  }

  AttentionConfig a_;
  bool interleaved_;
  double scale_;
  std::shared_ptr<const RopeTable> table_;
  Linear q_, k_, v_, out_;
  RmsNormLayer q_norm_, k_norm_;
};

}  // namespace

std::unique_ptr<AttentionLayer> make_grouped_query_attention(
    ParameterSet& set, const std::string& name, const ModelConfig& config,
    std::shared_ptr<const RopeTable> table) {
  return std::make_unique<GroupedQueryAttention>(set, name, config,
                                                 std::move(table));
}

}  // namespace catena
