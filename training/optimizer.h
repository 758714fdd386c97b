#pragma once

#include <cstdint>
#include <vector>

#include "layers/parameter.h"

namespace catena {

/// `[optimizer]`.
struct OptimizerConfig {
  double beta1 = 0.9, beta2 = 0.95, epsilon = 1e-8, weight_decay = 0.01;
  std::string decay = "all";  ///< all | matrices
  double clip = 1;            ///< 0: off
};

/// AdamW over a model's parameters, with moments of its own. A parameter
/// whose gradient is zero (an expert never chosen) still decays.
class Optimizer {
 public:
  Optimizer(ParameterSet& parameters, const OptimizerConfig& config);

  /// L2 norm over all gradients, each element once, formed in float64.
  [[nodiscard]] double gradient_norm();

  /// What gradients must be multiplied by so that their norm is at most
  /// config.clip: clip / (norm + 1e-6) where that is below 1.
  [[nodiscard]] double clip_scale(double norm) const;

  /// Updates every parameter with gradient * scale, renews rounded copies and
  /// clears gradients. `step` counts from 1.
  void update(double rate, double scale, std::int64_t step);

  /// Moments of parameter i, [elements] W: first, and second (of squares).
  [[nodiscard]] TensorView first(std::size_t i) const {
    return moments_[i].first.view();
  }
  [[nodiscard]] TensorView second(std::size_t i) const {
    return moments_[i].second.view();
  }

 private:
  struct Moments {
    Tensor first, second;
  };
  ParameterSet* parameters_;
  OptimizerConfig config_;
  std::vector<Moments> moments_;
  Tensor squares_;                    ///< [parameters] float64
  std::vector<double> squares_here_;  ///< the same, on the host
};

}  // namespace catena
