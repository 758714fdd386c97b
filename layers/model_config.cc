#include "layers/model_config.h"

#include <fmt/format.h>

namespace catena {
namespace {

constexpr std::int64_t kLarge = std::int64_t{1} << 30;

void describe_attention(config::Schema& s, AttentionConfig& a) {
  s.section("model.attention", "Attention of every layer.");
  s.add("model.attention.kind", a.kind,
        config::Text{{"mla", "gqa"},
                     "",
                     "Multi-head latent attention (DeepSeek-V2) or "
                     "grouped-query attention."});
  s.add("model.attention.heads", a.heads,
        config::Integer{1, 4096, "heads", "Query heads."});
  s.add("model.attention.q_lora_rank", a.q_lora_rank,
        config::Integer{0, kLarge, "channels",
                        "mla: width of the query's low-rank projection; 0 is "
                        "one full projection."});
  s.add("model.attention.kv_lora_rank", a.kv_lora_rank,
        config::Integer{1, kLarge, "channels",
                        "mla: width of the latent that keys and values are "
                        "made from."});
  s.add("model.attention.qk_nope_size", a.qk_nope_size,
        config::Integer{1, 65536, "channels",
                        "mla: channels per head without rotary embedding."});
  s.add("model.attention.qk_rope_size", a.qk_rope_size,
        config::Integer{2, 65536, "channels",
                        "mla: channels per head with rotary embedding; the "
                        "key's are shared by all heads. Even."});
  s.add("model.attention.v_size", a.v_size,
        config::Integer{1, 65536, "channels",
                        "mla: channels of a value per head."});
  s.add("model.attention.kv_heads", a.kv_heads,
        config::Integer{1, 4096, "heads",
                        "gqa: key and value heads; must divide heads."});
  s.add("model.attention.head_size", a.head_size,
        config::Integer{2, 65536, "channels", "gqa: channels per head. Even."});
  s.add("model.attention.qk_norm", a.qk_norm,
        config::Text{{"none", "head", "full"},
                     "",
                     "gqa: RMSNorm of queries and keys before the rotary "
                     "embedding, per head (Qwen3) or over all heads "
                     "(OLMoE)."});
}

void describe_rope(config::Schema& s, RopeConfig& r) {
  s.section("model.rope", "Rotary position embedding.");
  s.add("model.rope.theta", r.theta,
        config::Number{1, 1e12, "", "Base of the wave lengths."});
  s.add("model.rope.scaling", r.scaling,
        config::Text{{"none", "linear", "yarn"},
                     "",
                     "How positions beyond original_positions are reached."});
  s.add("model.rope.factor", r.factor,
        config::Number{1, 1e6, "", "Stretch of linear and yarn scaling."});
  s.add("model.rope.original_positions", r.original_positions,
        config::Integer{1, kLarge, "tokens",
                        "yarn: length the wave lengths were made for."});
  s.add("model.rope.beta_fast", r.beta_fast,
        config::Number{0, 1e6, "turns",
                       "yarn: channels that turn more often keep their wave "
                       "length."});
  s.add("model.rope.beta_slow", r.beta_slow,
        config::Number{0, 1e6, "turns",
                       "yarn: channels that turn less often are stretched by "
                       "the whole factor."});
  s.add("model.rope.mscale", r.mscale,
        config::Number{0, 100, "", "yarn: magnitude of the embedding."});
  s.add("model.rope.mscale_all_dim", r.mscale_all_dim,
        config::Number{0, 100, "",
                       "yarn: magnitude of the attention scores; 0 is off."});
  s.add("model.rope.layout", r.layout,
        config::Text{{"auto", "interleaved", "halves"},
                     "",
                     "Which channels form a pair: neighbours (DeepSeek) or i "
                     "and i + size/2 (Llama, Qwen). auto: neighbours for mla, "
                     "halves for gqa."});
}

void describe_chain(config::Schema& s, ChainConfig& c) {
  s.section("model.chain",
            "The experts and the chain of selections through them. "
            "CoE-C(K/N) is iterations = C, top_k = K and "
            "routed_experts + shared_experts = N.");
  s.add("model.chain.iterations", c.iterations,
        config::Integer{1, 64, "iterations",
                        "Length of the chain; 1 is a mixture of experts."});
  s.add("model.chain.routed_experts", c.routed_experts,
        config::Integer{1, 65536, "experts", "Experts to choose from."});
  s.add("model.chain.shared_experts", c.shared_experts,
        config::Integer{0, 64, "experts",
                        "Experts that every token passes in every iteration, "
                        "as one of this many times the width."});
  s.add("model.chain.top_k", c.top_k,
        config::Integer{1, 256, "experts",
                        "Experts chosen per token and iteration."});
  s.add("model.chain.intermediate", c.intermediate,
        config::Integer{1, kLarge, "channels", "Width of one expert."});
  s.add("model.chain.residual", c.residual,
        config::Text{{"inner", "outer", "both", "none"},
                     "",
                     "inner: each iteration adds its own input, as published. "
                     "outer: the chain's result is added to the layer's "
                     "stream, as in an ordinary mixture of experts."});
  s.add("model.chain.independent_gates", c.independent_gates,
        config::Switch{"A router of its own for every iteration."});
}

void describe_router(config::Schema& s, RouterConfig& r) {
  s.section("model.router", "How experts are scored and chosen.");
  s.add("model.router.score", r.score,
        config::Text{{"softmax", "sigmoid"},
                     "",
                     "Softmax over all experts (DeepSeek-V2) or a sigmoid "
                     "each (DeepSeek-V3)."});
  s.add("model.router.groups", r.groups,
        config::Integer{1, 65536, "groups",
                        "Experts fall into this many equal runs; 1 is plain "
                        "top-k."});
  s.add("model.router.top_groups", r.top_groups,
        config::Integer{1, 65536, "groups",
                        "Groups that a token may choose experts from."});
  s.add("model.router.group_score", r.group_score,
        config::Text{{"max", "top_two_sum"},
                     "",
                     "A group's score: its best expert (DeepSeek-V2) or the "
                     "sum of its best two (DeepSeek-V3)."});
  s.add("model.router.renormalize", r.renormalize,
        config::Switch{"Weights are divided by their sum over the chosen."});
  s.add("model.router.scale", r.scale,
        config::Number{0, 1e6, "", "Weights are multiplied by this."});
  s.add("model.router.auxiliary_loss", r.auxiliary_loss,
        config::Number{0, 1e6, "",
                       "Weight of the balance loss of each router call; 0 is "
                       "off."});
  s.add("model.router.auxiliary_scope", r.auxiliary_scope,
        config::Text{{"sequence", "batch"},
                     "",
                     "Balance within every sequence (row), or over all tokens "
                     "of one accumulation step."});
  s.add("model.router.z_loss", r.z_loss,
        config::Number{0, 1e6, "",
                       "Weight of the mean square of the router's "
                       "log-sum-exp; 0 is off."});
  s.add("model.router.correction_bias", r.correction_bias,
        config::Switch{"Balance without a loss (DeepSeek-V3): a bias per "
                       "expert enters the choice, not the weight."});
  s.add("model.router.bias_update_rate", r.bias_update_rate,
        config::Number{0, 1, "",
                       "Step of the correction bias towards balance, after "
                       "every optimizer step."});
  s.add("model.router.force_balanced", r.force_balanced,
        config::Switch{"Ignore the scores and deal experts out evenly. For "
                       "benchmarks; marked in every output."});
}

}  // namespace

void describe(config::Schema& s, ModelConfig& m) {
  s.section("model", "Sizes and mathematics of the model.");
  s.add("model.hidden", m.hidden,
        config::Integer{1, kLarge, "channels", "Width of the stream."});
  s.add("model.layers", m.layers,
        config::Integer{1, 4096, "layers", "Decoder layers."});
  s.add("model.vocabulary", m.vocabulary,
        config::Integer{1, kLarge, "tokens",
                        "Rows of the embedding; at least the tokenizer's."});
  s.add("model.max_positions", m.max_positions,
        config::Integer{2, kLarge, "tokens",
                        "Longest sequence that can be trained or "
                        "generated."});
  s.add("model.dense_layers", m.dense_layers,
        config::Integer{0, 4096, "layers",
                        "First layers with one plain SwiGLU instead of "
                        "experts."});
  s.add("model.dense_intermediate", m.dense_intermediate,
        config::Integer{1, kLarge, "channels", "Width of that SwiGLU."});
  s.add("model.norm_epsilon", m.norm_epsilon,
        config::Number{0, 1, "", "Added to the mean square in RMSNorm."});
  s.add("model.tied_head", m.tied_head,
        config::Switch{"The head uses the embedding's weight."});
  s.add("model.initializer_range", m.initializer_range,
        config::Number{0, 100, "",
                       "Standard deviation of initial weights; routers are "
                       "uniform in +-1/sqrt(hidden)."});
  describe_attention(s, m.attention);
  describe_rope(s, m.rope);
  describe_chain(s, m.chain);
  describe_router(s, m.router);
}

void check(config::Schema& s, const ModelConfig& m) {
  const ChainConfig& c = m.chain;
  const RouterConfig& r = m.router;
  const AttentionConfig& a = m.attention;
  if (m.dense_layers > m.layers) {
    s.problem("model.dense_layers", fmt::format("is {}, but model.layers is {}",
                                                m.dense_layers, m.layers));
  }
  if (c.top_k > c.routed_experts) {
    s.problem("model.chain.top_k",
              fmt::format("chooses {} experts of {} (model.chain."
                          "routed_experts); at most {} can be chosen",
                          c.top_k, c.routed_experts, c.routed_experts));
  }
  if (c.routed_experts % r.groups != 0) {
    s.problem("model.router.groups",
              fmt::format("{} groups do not divide {} routed experts evenly",
                          r.groups, c.routed_experts));
  } else if (r.top_groups > r.groups) {
    s.problem(
        "model.router.top_groups",
        fmt::format("is {}, but there are {} groups", r.top_groups, r.groups));
  } else if (c.top_k > r.top_groups * (c.routed_experts / r.groups)) {
    s.problem("model.chain.top_k",
              fmt::format("chooses {} experts, but the {} allowed groups hold "
                          "only {}; raise model.router.top_groups",
                          c.top_k, r.top_groups,
                          r.top_groups * (c.routed_experts / r.groups)));
  }
  if (r.group_score == "top_two_sum" && r.groups > 1 &&
      c.routed_experts / r.groups < 2) {
    s.problem("model.router.group_score",
              "top_two_sum needs at least two experts a group");
  }
  if (a.kind == "gqa" && a.heads % a.kv_heads != 0) {
    s.problem("model.attention.kv_heads",
              fmt::format("{} do not divide {} heads", a.kv_heads, a.heads));
  }
  if (m.rope.theta <= 1) {
    s.problem("model.rope.theta", "must be above 1");
  }
  if (m.rope.scaling == "yarn" && m.rope.beta_fast <= m.rope.beta_slow) {
    s.problem("model.rope.beta_fast",
              fmt::format("is {}; it must be above model.rope.beta_slow = {}",
                          m.rope.beta_fast, m.rope.beta_slow));
  }
  const bool mla = a.kind == "mla";
  if ((mla ? a.qk_rope_size : a.head_size) % 2 != 0) {
    s.problem(
        mla ? "model.attention.qk_rope_size" : "model.attention.head_size",
        "must be even: rotary embedding turns pairs of channels");
  }
}

}  // namespace catena
