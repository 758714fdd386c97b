#pragma once

#include <gtest/gtest.h>

#include <ostream>
#include <string>
#include <vector>

#include "layers/model_config.h"

namespace catena::testing {

/// A small model with one combination of options.
struct Options {
  std::string name;
  ModelConfig config;
};
inline void PrintTo(const Options& options, std::ostream* out) {
  *out << options.name;
}
inline std::string options_name(
    const ::testing::TestParamInfo<Options>& parameter) {
  return parameter.param.name;
}

inline ModelConfig small_config() {
  ModelConfig m;
  m.hidden = 16;
  m.layers = 2;
  m.vocabulary = 29;
  m.max_positions = 32;
  m.dense_intermediate = 20;
  m.initializer_range = 0.25;
  m.norm_epsilon = 1e-5;
  m.attention = {.kind = "mla",
                 .heads = 4,
                 .q_lora_rank = 0,
                 .kv_lora_rank = 10,
                 .qk_nope_size = 4,
                 .qk_rope_size = 6,
                 .v_size = 5,
                 .kv_heads = 2,
                 .head_size = 6};
  m.rope.theta = 100;
  m.rope.original_positions = 64;
  m.rope.beta_fast = 8;
  m.chain.iterations = 2;
  m.chain.routed_experts = 8;
  m.chain.shared_experts = 1;
  m.chain.top_k = 3;
  m.chain.intermediate = 6;
  m.router.auxiliary_loss = 0.05;
  // Biases that move at the wrong moment change choices at once.
  m.router.bias_update_rate = 0.5;
  return m;
}

/// Every option of attention, rope, chain, router and head at least once.
inline std::vector<Options> all_options() {
  std::vector<Options> all;
  const auto add = [&](const std::string& name, auto change) {
    ModelConfig m = small_config();
    change(m);
    all.push_back({name, m});
  };
  add("mla_inner", [](ModelConfig&) {});
  add("mla_query_lora_linear_outer_shared_gate", [](ModelConfig& m) {
    m.attention.q_lora_rank = 7;
    m.rope.scaling = "linear";
    m.rope.factor = 4;
    m.chain.residual = "outer";
    m.chain.independent_gates = false;
  });
  add("mla_yarn_groups_of_two_three_iterations", [](ModelConfig& m) {
    m.rope.scaling = "yarn";
    m.rope.factor = 8;
    m.rope.mscale = 0.7;
    m.rope.mscale_all_dim = 0.7;
    m.chain.iterations = 3;
    m.router.groups = 4;
    m.router.top_groups = 2;
  });
  add("mla_yarn_query_lora_halves_both_renormalised", [](ModelConfig& m) {
    m.attention.q_lora_rank = 7;
    m.rope.scaling = "yarn";
    m.rope.factor = 3;
    m.rope.layout = "halves";
    m.chain.residual = "both";
    m.chain.iterations = 3;
    m.chain.independent_gates = false;
    m.router.renormalize = true;
    m.router.scale = 1.5;
  });
  add("gqa_scaled_none_one_choice", [](ModelConfig& m) {
    m.attention.kind = "gqa";
    m.chain.residual = "none";
    m.chain.shared_experts = 0;
    m.chain.top_k = 1;
    m.router.scale = 2;
  });
  add("gqa_head_norm_interleaved_sigmoid_groups_bias", [](ModelConfig& m) {
    m.attention.kind = "gqa";
    m.attention.qk_norm = "head";
    m.rope.layout = "interleaved";
    m.router.score = "sigmoid";
    m.router.renormalize = true;
    m.router.scale = 2.5;
    m.router.groups = 4;
    m.router.top_groups = 2;
    m.router.group_score = "top_two_sum";
    m.router.correction_bias = true;
  });
  add("gqa_full_norm_yarn_batch_auxiliary_z", [](ModelConfig& m) {
    m.attention.kind = "gqa";
    m.attention.qk_norm = "full";
    m.rope.scaling = "yarn";
    m.rope.factor = 8;
    m.rope.mscale_all_dim = 1;
    m.router.auxiliary_scope = "batch";
    m.router.z_loss = 0.01;
  });
  add("mla_dense_first_layer_tied_head", [](ModelConfig& m) {
    m.dense_layers = 1;
    m.tied_head = true;
  });
  add("gqa_single_iteration_two_shared_all_experts", [](ModelConfig& m) {
    m.attention.kind = "gqa";
    m.attention.kv_heads = 4;
    m.chain.iterations = 1;
    m.chain.shared_experts = 2;
    m.chain.top_k = 8;
    m.chain.residual = "outer";
  });
  add("mla_sigmoid_bias_batch_auxiliary_z_tied", [](ModelConfig& m) {
    m.tied_head = true;
    m.router.score = "sigmoid";
    m.router.auxiliary_scope = "batch";
    m.router.z_loss = 0.02;
    m.router.correction_bias = true;
    m.chain.shared_experts = 0;
    m.chain.residual = "both";
  });
  add("gqa_one_key_head_linear_softmax_bias_z", [](ModelConfig& m) {
    m.attention.kind = "gqa";
    m.attention.kv_heads = 1;
    m.rope.scaling = "linear";
    m.rope.factor = 2;
    m.router.correction_bias = true;
    m.router.z_loss = 0.01;
    m.chain.independent_gates = false;
  });
  add("mla_all_layers_dense", [](ModelConfig& m) { m.dense_layers = 2; });
  return all;
}

}  // namespace catena::testing
