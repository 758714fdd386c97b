#pragma once

#include <cstdint>
#include <string>

#include "runtime/base/config.h"

namespace catena {

/// `[model.rope]`: rotary position embedding.
struct RopeConfig {
  double theta = 10000;
  std::string scaling = "none";  ///< none | linear | yarn
  double factor = 1;
  std::int64_t original_positions = 4096;
  double beta_fast = 32, beta_slow = 1;
  double mscale = 1, mscale_all_dim = 0;
  std::string layout = "auto";  ///< auto | interleaved | halves
};

/// `[model.attention]`. Sizes are channels per head.
struct AttentionConfig {
  std::string kind = "mla";  ///< mla | gqa
  std::int64_t heads = 4;
  // mla (DeepSeek-V2)
  std::int64_t q_lora_rank = 0;  ///< 0: one full query projection
  std::int64_t kv_lora_rank = 64;
  std::int64_t qk_nope_size = 32, qk_rope_size = 16, v_size = 32;
  // gqa
  std::int64_t kv_heads = 4, head_size = 64;
  std::string qk_norm = "none";  ///< none | head | full
};

/// `[model.chain]`: the experts and the chain through them.
struct ChainConfig {
  std::int64_t iterations = 2;
  std::int64_t routed_experts = 15, shared_experts = 1;
  std::int64_t top_k = 4;
  std::int64_t intermediate = 176;
  std::string residual = "inner";  ///< inner | outer | both | none
  bool independent_gates = true;

  [[nodiscard]] bool inner_residual() const {
    return residual == "inner" || residual == "both";
  }
  [[nodiscard]] bool outer_residual() const {
    return residual == "outer" || residual == "both";
  }
};

/// `[model.router]`.
struct RouterConfig {
  std::string score = "softmax";    ///< softmax | sigmoid
  std::string group_score = "max";  ///< max | top_two_sum
  std::int64_t groups = 1, top_groups = 1;
  bool renormalize = false;
  double scale = 1;
  double auxiliary_loss = 0.001;
  std::string auxiliary_scope = "sequence";  ///< sequence | batch
  double z_loss = 0;
  bool correction_bias = false;
  double bias_update_rate = 0.001;
  bool force_balanced = false;
};

/// `[model]`: everything that decides shapes and mathematics.
struct ModelConfig {
  std::int64_t hidden = 256, layers = 4, vocabulary = 2048;
  std::int64_t max_positions = 4096;
  std::int64_t dense_layers = 0, dense_intermediate = 704;
  double norm_epsilon = 1e-6;
  bool tied_head = false;
  double initializer_range = 0.02;
  AttentionConfig attention;
  RopeConfig rope;
  ChainConfig chain;
  RouterConfig router;

  [[nodiscard]] std::int64_t chain_layers() const {
    return layers - dense_layers;
  }
};

/// Declares every `model.*` key.
void describe(config::Schema& schema, ModelConfig& model);

/// Checks that hold between keys (heads, groups, k against experts, ...);
/// each one broken is noted with schema.problem().
void check(config::Schema& schema, const ModelConfig& model);

}  // namespace catena
