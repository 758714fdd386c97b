#include "tests/reference/naive_model.h"

#include <fmt/format.h>

#include <stdexcept>

namespace catena::naive {

const Values& Model::weight(const std::string& name) const {
  const auto found = weights_.find(name);
  if (found == weights_.end()) throw std::out_of_range("no weight " + name);
  return found->second;
}

Values Model::mlp(const std::string& name, const Values& x) const {
  return swiglu(weight(name + ".gate_proj.weight"),
                weight(name + ".up_proj.weight"),
                weight(name + ".down_proj.weight"), x);
}

Result Model::run(const Tokens& tokens, const LossScale& scale,
                  const Routes& forced) const {
  Result result;
  const auto hidden = static_cast<std::size_t>(config_.hidden);
  const Values& embedding = weight("model.embed_tokens.weight");
  Rows h;
  for (const std::int32_t id : tokens.ids) {
    h.push_back(part(embedding, static_cast<std::size_t>(id) * hidden, hidden));
  }

  for (std::int64_t layer = 0; layer < config_.layers; ++layer) {
    const std::string name = fmt::format("model.layers.{}", layer);
    const auto normed = [&](const std::string& norm) {
      Rows rows;
      for (const Values& x : h) {
        rows.push_back(
            rms_norm(x, weight(name + norm + ".weight"), config_.norm_epsilon));
      }
      return rows;
    };
    const Rows attended =
        attention(name + ".self_attn", normed(".input_layernorm"), tokens);
    for (std::size_t i = 0; i < h.size(); ++i) add(h[i], attended[i]);

    const Rows x = normed(".post_attention_layernorm");
    if (layer < config_.dense_layers) {
      for (std::size_t i = 0; i < h.size(); ++i) {
        add(h[i], mlp(name + ".mlp", x[i]));
      }
      continue;
    }
    const Rows out = chain(layer, x, tokens, scale, forced, result);
    for (std::size_t i = 0; i < h.size(); ++i) {
      if (config_.chain.outer_residual()) {
        add(h[i], out[i]);
      } else {
        h[i] = out[i];
      }
    }
  }

  const Values& head = config_.tied_head ? embedding : weight("lm_head.weight");
  for (std::size_t i = 0; i < h.size(); ++i) {
    result.logits.push_back(multiply(
        head,
        rms_norm(h[i], weight("model.norm.weight"), config_.norm_epsilon)));
    if (tokens.targets[i] >= 0) {
      const Values& logits = result.logits.back();
      result.cross_entropy +=
          log_sum_exp(logits) -
          logits[static_cast<std::size_t>(tokens.targets[i])];
    }
  }
  result.total = result.cross_entropy * scale.per_trained_token +
                 result.auxiliary + result.z;
  return result;
}

}  // namespace catena::naive
