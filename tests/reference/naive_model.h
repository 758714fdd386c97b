#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "layers/chunk.h"
#include "layers/model_config.h"
#include "tests/reference/naive_math.h"

/// The whole forward pass a second time, in float64, token by token and with
/// plain loops, so that it can be read against the published semantics. It
/// shares no computation with the model it is compared with.
namespace catena::naive {

/// One vector per token.
using Rows = std::vector<Values>;

/// Weights by their checkpoint names, linear ones [out, in] row-major. A
/// correction bias is ROUTER.e_score_correction_bias, if there is one.
using Weights = std::map<std::string, Values>;

/// What one token chose in one router call.
struct Route {
  std::vector<std::int32_t> experts;
  Values weights;
};
/// Of every token in one (chain layer, iteration).
using Routes =
    std::map<std::pair<std::int64_t, std::int64_t>, std::vector<Route>>;

struct Result {
  Rows logits;
  double cross_entropy = 0;  ///< sum over trained tokens
  double auxiliary = 0;      ///< all router calls, weighted and scaled
  double z = 0;              ///< all router calls, weighted and scaled
  double total = 0;          ///< what gradients are taken of
  Routes routes;
};

class Model {
 public:
  Model(ModelConfig config, Weights weights)
      : config_(std::move(config)), weights_(std::move(weights)) {}

  [[nodiscard]] Weights& weights() { return weights_; }

  /// `forced`: experts to use where there is an entry, instead of choosing.
  [[nodiscard]] Result run(const Tokens& tokens, const LossScale& scale,
                           const Routes& forced = {}) const;

 private:
  struct Call;  // a router call: one (layer, iteration) over all tokens

  [[nodiscard]] const Values& weight(const std::string& name) const;
  [[nodiscard]] Values mlp(const std::string& name, const Values& x) const;

  // naive_attention.cc
  [[nodiscard]] Rows attention(const std::string& name, const Rows& x,
                               const Tokens& tokens) const;
  struct Heads;
  [[nodiscard]] Heads latent_heads(const std::string& name, const Values& x,
                                   double position) const;
  [[nodiscard]] Heads grouped_heads(const std::string& name, const Values& x,
                                    double position) const;
  [[nodiscard]] Values rotated(const Values& x, double position) const;
  [[nodiscard]] Values frequencies(std::size_t size) const;

  // naive_chain.cc
  [[nodiscard]] Rows chain(std::int64_t layer, Rows x, const Tokens& tokens,
                           const LossScale& scale, const Routes& forced,
                           Result& result) const;
  [[nodiscard]] Route choose(const Values& scores, const Values& bias,
                             const Route* forced) const;
  [[nodiscard]] std::vector<std::int32_t> best_experts(
      const Values& choice) const;
  void add_losses(const Call& call, const Tokens& tokens,
                  const LossScale& scale, Result& result) const;

  ModelConfig config_;
  Weights weights_;
};

}  // namespace catena::naive
