#include <fmt/format.h>

#include <algorithm>

#include "tests/reference/naive_model.h"

namespace catena::naive {

struct Model::Call {
  Rows probability;           ///< [token][expert]
  Values log_sum_exp;         ///< [token]
  std::vector<Route> routes;  ///< [token]
};

Rows Model::chain(std::int64_t layer, Rows x, const Tokens& tokens,
                  const LossScale& scale, const Routes& forced,
                  Result& result) const {
  const ChainConfig& c = config_.chain;
  const std::string name = fmt::format("model.layers.{}.mlp", layer);
  const std::int64_t chain_layer = layer - config_.dense_layers;
  for (std::int64_t t = 0; t < c.iterations; ++t) {
    const std::string gate = c.independent_gates
                                 ? fmt::format("{}.gate.{}", name, t)
                                 : name + ".gate";
    const auto bias = weights_.find(gate + ".e_score_correction_bias");
    const auto replayed = forced.find({chain_layer, t});
    Call call;
    for (std::size_t i = 0; i < x.size(); ++i) {
      const Values logits = multiply(weight(gate + ".weight"), x[i]);
      Values scores = softmax(logits);
      if (config_.router.score == "sigmoid") {
        for (std::size_t e = 0; e < scores.size(); ++e) {
          scores[e] = 1 / (1 + std::exp(-logits[e]));
        }
      }
      double sum = 0;
      for (const double score : scores) sum += score;
      Values probability = scores;
      for (double& p : probability) p /= sum;
      call.probability.push_back(probability);
      call.log_sum_exp.push_back(log_sum_exp(logits));
      const Route route =
          choose(scores, bias == weights_.end() ? Values() : bias->second,
                 replayed == forced.end() ? nullptr : &replayed->second[i]);
      call.routes.push_back(route);

      Values y(x[i].size(), 0.0);
      for (std::size_t j = 0; j < route.experts.size(); ++j) {
        const std::string expert =
            fmt::format("{}.experts.{}", name, route.experts[j]);
        add(y, mlp(expert, x[i]), route.weights[j]);
      }
      if (c.shared_experts > 0) add(y, mlp(name + ".shared_experts", x[i]));
      if (c.inner_residual()) add(y, x[i]);
      x[i] = y;
    }
    add_losses(call, tokens, scale, result);
    result.routes[{chain_layer, t}] = call.routes;
  }
  return x;
}

Route Model::choose(const Values& scores, const Values& bias,
                    const Route* forced) const {
  const RouterConfig& r = config_.router;
  Route route;
  if (forced != nullptr) {
    route.experts = forced->experts;
  } else {
    Values choice = scores;
    if (!bias.empty()) add(choice, bias);
    route.experts = best_experts(choice);
  }
  double sum = 0;
  for (const std::int32_t e : route.experts) {
    route.weights.push_back(scores[static_cast<std::size_t>(e)]);
    sum += route.weights.back();
  }
  for (double& w : route.weights) {
    if (r.renormalize) w /= sum + 1e-20;
    w *= r.scale;
  }
  return route;
}

/// The best top_k of those experts that are in the best top_groups groups.
std::vector<std::int32_t> Model::best_experts(const Values& choice) const {
  const RouterConfig& r = config_.router;
  const auto best = [](const Values& from, std::int64_t count) {
    std::vector<std::int32_t> order(from.size());
    for (std::size_t i = 0; i < order.size(); ++i) {
      order[i] = static_cast<std::int32_t>(i);
    }
    std::stable_sort(order.begin(), order.end(),
                     [&](std::int32_t a, std::int32_t b) {
                       return from[static_cast<std::size_t>(a)] >
                              from[static_cast<std::size_t>(b)];
                     });
    order.resize(static_cast<std::size_t>(count));
    return order;
  };
  const std::size_t run = choice.size() / static_cast<std::size_t>(r.groups);
  Values group_scores;
  for (std::size_t g = 0; g < choice.size() / run; ++g) {
    Values members = part(choice, g * run, run);
    std::sort(members.begin(), members.end(), std::greater<>());
    group_scores.push_back(r.group_score == "top_two_sum" && r.groups > 1
                               ? members[0] + members[1]
                               : members[0]);
  }
  const auto groups = best(group_scores, r.top_groups);
  Values allowed(choice.size(), -1e300);
  for (const std::int32_t g : groups) {
    const std::size_t begin = static_cast<std::size_t>(g) * run;
    for (std::size_t e = begin; e < begin + run; ++e) allowed[e] = choice[e];
  }
  return best(allowed, config_.chain.top_k);
}

void Model::add_losses(const Call& call, const Tokens& tokens,
                       const LossScale& scale, Result& result) const {
  const RouterConfig& r = config_.router;
  const auto experts = static_cast<std::size_t>(config_.chain.routed_experts);
  const double k = static_cast<double>(config_.chain.top_k);
  // sum over experts of f_i P_i, over the tokens [begin, end)
  const auto balance = [&](std::size_t begin, std::size_t end) {
    const double length = static_cast<double>(end - begin);
    Values f(experts, 0.0), p(experts, 0.0);
    for (std::size_t i = begin; i < end; ++i) {
      for (const std::int32_t e : call.routes[i].experts) {
        f[static_cast<std::size_t>(e)] +=
            static_cast<double>(experts) / (length * k);
      }
      add(p, call.probability[i], 1 / length);
    }
    return length > 0 ? dot(f, p) : 0;
  };
  if (r.auxiliary_scope == "batch") {
    result.auxiliary +=
        r.auxiliary_loss * scale.per_batch * balance(0, call.routes.size());
  } else {
    for (std::size_t row = 0; row + 1 < tokens.row_offsets.size(); ++row) {
      result.auxiliary +=
          r.auxiliary_loss * scale.per_sequence *
          balance(static_cast<std::size_t>(tokens.row_offsets[row]),
                  static_cast<std::size_t>(tokens.row_offsets[row + 1]));
    }
  }
  for (const double value : call.log_sum_exp) {
    result.z += r.z_loss * scale.per_token * value * value;
  }
}

}  // namespace catena::naive
