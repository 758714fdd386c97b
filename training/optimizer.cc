#include "training/optimizer.h"

#include <cmath>
#include <numeric>

namespace catena {
Optimizer::Optimizer(ParameterSet& parameters, const OptimizerConfig& config,
                     Ranks* ranks)
    : parameters_(&parameters), config_(config), ranks_(ranks) {
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    const std::vector<Section>& sections = parameters[i].spec().sections;
    for (const Section& section : sections) {
      shares_.push_back(
          make_share(i, {section.begin, section.count}, section.replicas));
    }
    if (sections.empty()) {
      shares_.push_back(
          make_share(i, {0, parameters[i].elements()},
                     ranks != nullptr ? &ranks->world() : nullptr));
    }
  }
  squares_ = Tensor(parameters.backend(), DType::kFloat64,
                    {static_cast<std::int64_t>(shares_.size())});
  squares_here_.resize(shares_.size());
}

Optimizer::Share Optimizer::make_share(std::size_t parameter, Run all,
                                       Communicator* replicas) const {
  const DType wide = parameters_->precision().wide();
  const std::int64_t element = size_bytes(wide);
  auto* const master =
      static_cast<std::byte*>((*parameters_)[parameter].master().data());
  Share share;
  share.parameter = parameter;
  share.all = all;
  if (replicas != nullptr && replicas->size() > 1) {
    share.replicas = replicas;
    share.rank = static_cast<std::size_t>(replicas->rank());
  }
  const std::int64_t size = share.replicas != nullptr ? replicas->size() : 1;
  for (std::int64_t r = 0; r < size; ++r) {
    const std::int64_t begin = all.begin + all.count * r / size;
    const std::int64_t count = all.begin + all.count * (r + 1) / size - begin;
    share.runs.push_back({begin, count});
    share.counts.push_back(count);
    share.parts.push_back({master + begin * element, count * element});
  }
  const Shape flat{share.runs[share.rank].count};
  share.first = Tensor(parameters_->backend(), wide, flat);
  share.second = Tensor(parameters_->backend(), wide, flat);
  return share;
}

TensorView Optimizer::own(std::size_t i, TensorView whole) const {
  const Run run = this->run(i);
  return whole.reshape({whole.elements()}).slice(0, run.begin, run.count);
}

template <class Issue>
void Optimizer::issue_all(const Communicator* replicas, const Issue& issue) {
  for (std::size_t i = shares_.size(); i-- > 0;) {
    if (shares_[i].replicas != nullptr && shares_[i].replicas == replicas) {
      pending_.push_back(issue(shares_[i]));
    }
  }
}

template <class Issue>
void Optimizer::issue_in_turn(const Issue& issue) {
  for (const auto& replicas : ranks_->replica_sets()) {
    issue_all(replicas.get(), issue);
    wait_for_all();
  }
}

void Optimizer::wait_for_all() {
  for (const Pending& pending : pending_) wait(pending);
  pending_.clear();
}

Pending Optimizer::sum(const Share& share) const {
  const TensorView gradient = (*parameters_)[share.parameter].gradient();
  return share.replicas->reduce_scatter(
      {.phase = Phase::kGradients},
      gradient.reshape({gradient.elements()})
          .slice(0, share.all.begin, share.all.count),
      share.counts);
}

void Optimizer::take(std::size_t begin, std::size_t end) {
  if (ranks_ == nullptr) return;
  const bool one_set = ranks_->replica_sets().size() == 1;
  for (std::size_t i = shares_.size(); i-- > 0;) {
    const Share& share = shares_[i];
    if (share.parameter < begin || share.parameter >= end ||
        share.replicas == nullptr) {
      continue;
    }
    if (share.replicas == &ranks_->world()) {
      pending_.push_back(sum(share));
    } else if (one_set) {
      pending_of_set_.push_back(sum(share));
    }
  }
}

// Those of all ranks first, on every rank: while a rank waits for one group,
// its sums in another one do not move.
void Optimizer::sum_gradients() {
  wait_for_all();
  if (ranks_ != nullptr && ranks_->replica_sets().size() > 1) {
    issue_in_turn([this](const Share& share) { return sum(share); });
  }
  pending_.swap(pending_of_set_);
  wait_for_all();
}

double Optimizer::gradient_norm() {
  Backend& backend = parameters_->backend();
  for (std::size_t i = 0; i < shares_.size(); ++i) {
    backend.kernels()(SumSquares{
        .x = own(i, (*parameters_)[shares_[i].parameter].gradient()),
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
      const std::int64_t begin = run.begin - share.all.begin;
      parts.push_back({to == nullptr ? nullptr : to + begin * element,
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
  for (std::size_t i = 0; i < shares_.size(); ++i) {
    const Parameter& parameter = (*parameters_)[shares_[i].parameter];
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
  const auto gather = [](const Share& share) {
    return share.replicas->all_gather_v({.phase = Phase::kParameters},
                                        share.parts);
  };
  issue_all(&ranks_->world(), gather);
  issue_in_turn(gather);
  wait_for_all();
  // What was not this rank's own to move.
  for (const Share& share : shares_) {
    if (share.replicas == nullptr) continue;
    const Parameter& parameter = (*parameters_)[share.parameter];
    const auto part = [&](TensorView whole) {
      return whole.reshape({whole.elements()})
          .slice(0, share.all.begin, share.all.count);
    };
    const TensorView gradient = part(parameter.gradient());
    backend.clear(gradient.data(), static_cast<std::size_t>(gradient.bytes()));
    if (!parameter.copy().defined()) continue;
    backend.kernels()(
        Copy{.from = part(parameter.master()), .to = part(parameter.copy())});
  }
}

}  // namespace catena
