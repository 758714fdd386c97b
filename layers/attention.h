#pragma once

#include <memory>

#include "layers/linear.h"
#include "layers/rope_table.h"

namespace catena {

/// Causal self-attention within each document.
///   out = O concat_h softmax(scale q_h k^T) v,   x, out [tokens, hidden] T
/// With caches in the chunk, keys and values of earlier tokens come from
/// there, and the new ones are added to it.
/// Thread rule: const after construction; one chunk per thread.
class AttentionLayer {
 public:
  /// What backward needs; the members a kind does not use stay undefined.
  struct Saved {
    TensorView x;                   ///< [tokens, hidden]
    TensorView q_latent, q_normed;  ///< [tokens, q_lora_rank]
    TensorView kv_latent;           ///< [tokens, kv_lora_rank + qk_rope_size]
    TensorView kv_normed;           ///< [tokens, kv_lora_rank]
    TensorView q, k, v;             ///< [tokens, heads, size] each
    TensorView out, log_sum_exp;  ///< [tokens, heads, v_size], [heads, tokens]
    TensorView q_raw, k_raw;      ///< before qk_norm
    RmsNormLayer::Saved q_norm, k_norm, kv_norm;
  };

  virtual ~AttentionLayer() = default;
  virtual void forward(Chunk& chunk, std::int64_t layer, TensorView x,
                       TensorView out, Saved& saved) const = 0;
  /// d_x [tokens, hidden] is overwritten.
  virtual void backward(Chunk& chunk, Saved& saved, TensorView d_out,
                        TensorView d_x) const = 0;
  /// Shapes of one layer's cache for `capacity` tokens.
  [[nodiscard]] virtual KeyValueCache make_cache(
      Backend& backend, DType dtype, std::int64_t capacity) const = 0;
};

/// Multi-head latent attention.
///   q = q_proj x,  or  q_b rms(q_a x);   [c, k_rope] = kv_a x
///   [k_nope, v] = kv_b rms(c);   rotary on the rope parts only, k_rope shared
///   by all heads;   scale = (nope + rope)^-1/2 * yarn's factor
/// Source: arXiv 2405.04434, section 2.1. The
/// inner norms use epsilon 1e-6 whatever the model's is.
[[nodiscard]] std::unique_ptr<AttentionLayer> make_latent_attention(
    ParameterSet& set, const std::string& name, const ModelConfig& config,
    std::shared_ptr<const RopeTable> table);

/// Grouped-query attention, with optional RMSNorm of queries and keys per
/// head or over all heads before the rotary embedding.
/// Source: arXiv 2305.13245.
[[nodiscard]] std::unique_ptr<AttentionLayer> make_grouped_query_attention(
    ParameterSet& set, const std::string& name, const ModelConfig& config,
    std::shared_ptr<const RopeTable> table);

/// Channels that rotary embedding turns, for the table.
[[nodiscard]] std::int64_t rope_size(const AttentionConfig& attention);

namespace internal {

/// The part both kinds share: softmax attention from saved.q, k, v to
/// saved.out, through the cache if there is one.
void attend(Chunk& chunk, std::int64_t layer, double scale,
            AttentionLayer::Saved& saved);
void turn(Chunk& chunk, const RopeTable& table, bool interleaved, bool inverse,
          TensorView x);
[[nodiscard]] bool interleaved(const ModelConfig& config);

}  // namespace internal
}  // namespace catena
