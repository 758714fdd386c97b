#pragma once

#include "layers/linear.h"
#include "layers/statistics.h"

namespace catena {

/// Scores experts and chooses top_k of them per token, in the wide type.
///   logits = x W^T,  choice and weights: kernel TopK
///   x [tokens, hidden] T,  W [experts, hidden] W
/// Losses on the scores join in backward: balance (per sequence or over the
/// batch), z. Balance without a loss: update_bias().
/// Source: arXiv 2405.04434, section 2.2; 2412.19437, section 2.1.2.
class Router {
 public:
  struct Saved {
    TensorView x;                            ///< [tokens, hidden] W
    TensorView logits, scores, probability;  ///< [tokens, experts] W
    TensorView index, weights;               ///< [tokens, top_k]
    TensorView log_sum_exp, entropy;         ///< [tokens] W
    TensorView d_probability;                ///< [segments, experts] W
  };

  Router(ParameterSet& set, const std::string& name, const ModelConfig& config);

  /// Fills saved.index and saved.weights; adds to `cell` when training.
  void forward(Chunk& chunk, std::int64_t layer, std::int64_t iteration,
               TensorView x, const RoutingStatistics::Cell& cell,
               Saved& saved) const;
  /// d_weights [tokens, top_k] W; d_x [tokens, hidden] T is added to.
  void backward(Chunk& chunk, const RoutingStatistics::Cell& cell, Saved& saved,
                TensorView d_weights, TensorView d_x) const;

  /// bias[e] += rate * sign(mean load - load[e]); nothing without a bias.
  void update_bias(Backend& backend, const std::vector<double>& load);
  /// [experts] W, or undefined.
  [[nodiscard]] TensorView bias() const { return bias_.view(); }
  [[nodiscard]] const std::string& name() const { return name_; }

 private:
  void count(Chunk& chunk, const RoutingStatistics::Cell& cell,
             Saved& saved) const;
  void balance_over_batch(Chunk& chunk, const RoutingStatistics::Cell& cell,
                          Saved& saved) const;

  std::string name_;
  RouterConfig config_;
  TopKRule rule_;
  Parameter* weight_;
  Tensor bias_;
  std::vector<double> bias_values_;  ///< of update_bias()
  std::int64_t experts_;
};

}  // namespace catena
