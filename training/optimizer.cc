#include "training/optimizer.h"

#include <cmath>
#include <numeric>

namespace catena {

Optimizer::Optimizer(ParameterSet& parameters, const OptimizerConfig& config)
    : parameters_(&parameters), config_(config) {
  Backend& backend = parameters.backend();
  const DType wide = parameters.precision().wide();
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    const Shape flat{parameters[i].elements()};
    moments_.push_back(
        {Tensor(backend, wide, flat), Tensor(backend, wide, flat)});
  }
  squares_ = Tensor(backend, DType::kFloat64,
                    {static_cast<std::int64_t>(parameters.size())});
  squares_here_.resize(parameters.size());
}

double Optimizer::gradient_norm() {
  Backend& backend = parameters_->backend();
  for (std::size_t i = 0; i < parameters_->size(); ++i) {
    backend.kernels()(SumSquares{
        .x = (*parameters_)[i].gradient(),
        .out = squares_.view().slice(0, static_cast<std::int64_t>(i), 1)});
  }
  read_values(backend, squares_.view(), squares_here_);
  return std::sqrt(
      std::accumulate(squares_here_.begin(), squares_here_.end(), 0.0));
}

double Optimizer::clip_scale(double norm) const {
  if (config_.clip == 0) return 1;
  return std::min(1.0, config_.clip / (norm + 1e-6));
}

void Optimizer::update(double rate, double scale, std::int64_t step) {
  for (std::size_t i = 0; i < parameters_->size(); ++i) {
    const Parameter& parameter = (*parameters_)[i];
    const Shape flat{parameter.elements()};
    const bool decays =
        config_.decay == "all" || parameter.spec().shape.dimensions > 1;
    parameters_->backend().kernels()(AdamW{
        .x = parameter.master().reshape(flat),
        .gradient = parameter.gradient().reshape(flat),
        .m = moments_[i].first.view(),
        .v = moments_[i].second.view(),
        .copy = parameter.copy().defined() ? parameter.copy().reshape(flat)
                                           : TensorView(),
        .rate = rate,
        .beta1 = config_.beta1,
        .beta2 = config_.beta2,
        .epsilon = config_.epsilon,
        .decay = decays ? config_.weight_decay : 0,
        .gradient_scale = scale,
        .step = step});
  }
}

}  // namespace catena
