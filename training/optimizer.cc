#include "training/optimizer.h"

#include <cmath>
#include <numeric>

namespace catena {
namespace {

Communicator* replicas_of(const Parameter& parameter, Ranks* ranks) {
  if (ranks == nullptr) return nullptr;
  Communicator& replicas =
      parameter.spec().sharded ? ranks->replicas() : ranks->world();
  return replicas.size() > 1 ? &replicas : nullptr;
}

}  // namespace

Optimizer::Optimizer(ParameterSet& parameters, const OptimizerConfig& config,
                     Ranks* ranks)
    : parameters_(&parameters), config_(config), ranks_(ranks) {
  Backend& backend = parameters.backend();
  const DType wide = parameters.precision().wide();
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    Share share;
    share.replicas = replicas_of(parameters[i], ranks);
    const std::int64_t size =
        share.replicas != nullptr ? share.replicas->size() : 1;
    share.rank = share.replicas != nullptr
                     ? static_cast<std::size_t>(share.replicas->rank())
                     : 0;
    const std::int64_t elements = parameters[i].elements();
    auto* master = static_cast<std::byte*>(parameters[i].master().data());
    for (std::int64_t r = 0; r < size; ++r) {
      const std::int64_t begin = elements * r / size;
      const std::int64_t count = elements * (r + 1) / size - begin;
      share.runs.push_back({begin, count});
      share.counts.push_back(count);
      share.parts.push_back(
          {master + begin * size_bytes(wide), count * size_bytes(wide)});
    }
    const Shape flat{share.runs[share.rank].count};
    share.first = Tensor(backend, wide, flat);
    share.second = Tensor(backend, wide, flat);
    shares_.push_back(std::move(share));
  }
  squares_ = Tensor(backend, DType::kFloat64,
                    {static_cast<std::int64_t>(parameters.size())});
  squares_here_.resize(parameters.size());
}

TensorView Optimizer::own(std::size_t i, TensorView whole) const {
  const Run run = this->run(i);
  return whole.reshape({whole.elements()}).slice(0, run.begin, run.count);
}

void Optimizer::take(std::size_t begin, std::size_t end) {
  for (std::size_t i = end; i-- > begin;) {
    const Share& share = shares_[i];
    if (share.replicas == nullptr) continue;
    const TensorView gradient = (*parameters_)[i].gradient();
    pending_.push_back(share.replicas->reduce_scatter(
        {.phase = Phase::kGradients}, gradient.reshape({gradient.elements()}),
        share.counts));
  }
}

void Optimizer::sum_gradients() {
  for (const Pending& pending : pending_) wait(pending);
  pending_.clear();
}

double Optimizer::gradient_norm() {
  Backend& backend = parameters_->backend();
  for (std::size_t i = 0; i < parameters_->size(); ++i) {
    backend.kernels()(SumSquares{
        .x = own(i, (*parameters_)[i].gradient()),
        .out = squares_.view().slice(0, static_cast<std::int64_t>(i), 1)});
  }
  read_values(backend, squares_.view(), squares_here_);
  double sum = std::accumulate(squares_here_.begin(), squares_here_.end(), 0.0);
  if (ranks_ != nullptr) {
    wait(ranks_->world().all_reduce({.phase = Phase::kGradients},
                                    {&sum, DType::kFloat64, {1}}));
  }
  return std::sqrt(sum);
}

void Optimizer::gather_moments(std::size_t i, std::byte* first,
                               std::byte* second) const {
  const Share& share = shares_[i];
  Backend& backend = parameters_->backend();
  for (const auto& [moment, to] : {std::pair{share.first.view(), first},
                                   std::pair{share.second.view(), second}}) {
    if (to != nullptr) {
      backend.copy_to_host(to, moment.data(),
                           static_cast<std::size_t>(moment.bytes()));
    }
    if (share.replicas == nullptr) continue;
    std::vector<Communicator::Part> parts;
    const std::int64_t element = size_bytes(moment.dtype());
    for (const Run& run : share.runs) {
      parts.push_back({to == nullptr ? nullptr : to + run.begin * element,
                       run.count * element});
    }
    parts[share.rank].data = moment.data();
    wait(share.replicas->gather_v({}, 0, parts));
  }
}

double Optimizer::clip_scale(double norm) const {
  if (config_.clip == 0) return 1;
  return std::min(1.0, config_.clip / (norm + 1e-6));
}

void Optimizer::update(double rate, double scale, std::int64_t step) {
  for (std::size_t i = 0; i < parameters_->size(); ++i) {
    const Parameter& parameter = (*parameters_)[i];
    const bool decays =
        config_.decay == "all" || parameter.spec().shape.dimensions > 1;
    parameters_->backend().kernels()(
        AdamW{.x = own(i, parameter.master()),
              .gradient = own(i, parameter.gradient()),
              .m = shares_[i].first.view(),
              .v = shares_[i].second.view(),
              .copy = parameter.copy().defined() ? own(i, parameter.copy())
                                                 : TensorView(),
              .rate = rate,
              .beta1 = config_.beta1,
              .beta2 = config_.beta2,
              .epsilon = config_.epsilon,
              .decay = decays ? config_.weight_decay : 0,
              .gradient_scale = scale,
              .step = step});
  }
  if (ranks_ != nullptr) gather_masters();
}

void Optimizer::gather_masters() {
  Backend& backend = parameters_->backend();
  for (const Share& share : shares_) {
    if (share.replicas == nullptr) continue;
    pending_.push_back(share.replicas->all_gather_v(
        {.phase = Phase::kParameters}, share.parts));
  }
  for (const Pending& pending : pending_) wait(pending);
  pending_.clear();
  for (std::size_t i = 0; i < parameters_->size(); ++i) {
    if (shares_[i].replicas == nullptr) continue;
    const Parameter& parameter = (*parameters_)[i];
    const TensorView gradient = parameter.gradient();
    backend.clear(gradient.data(), static_cast<std::size_t>(gradient.bytes()));
    if (!parameter.copy().defined()) continue;
    const Shape flat{parameter.elements()};
    backend.kernels()(Copy{.from = parameter.master().reshape(flat),
                           .to = parameter.copy().reshape(flat)});
  }
}

}  // namespace catena
