#include "training/optimizer.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace catena {
namespace {

/// What two runs have in common, or nothing, at the start of the second.
Optimizer::Run common(Optimizer::Run a, Optimizer::Run b) {
  const std::int64_t begin = std::max(a.begin, b.begin);
  const std::int64_t end = std::min(a.begin + a.count, b.begin + b.count);
  return begin < end ? Optimizer::Run{begin, end - begin}
                     : Optimizer::Run{b.begin, 0};
}

TensorView slice(TensorView flat, Optimizer::Run run) {
  return flat.slice(0, run.begin, run.count);
}

}  // namespace

Optimizer::Optimizer(ParameterSet& parameters, const OptimizerConfig& config,
                     Ranks* ranks)
    : parameters_(&parameters), config_(config), ranks_(ranks) {
  for (const ParameterBlock& block : parameters.blocks()) {
    const ParameterSpec& first = parameters[block.members[0].parameter].spec();
    for (const catena::Section& section : first.sections) {
      add_bucket(block, {section.begin, section.count}, section.replicas);
    }
    if (first.sections.empty()) {
      add_bucket(block, {0, block.master.view().elements()},
                 ranks != nullptr ? &ranks->world() : nullptr);
    }
  }
  squares_ = Tensor(parameters.backend(), DType::kFloat64,
                    {static_cast<std::int64_t>(sections_.size())});
  squares_here_.resize(sections_.size());
}

void Optimizer::add_bucket(const ParameterBlock& block, Run all,
                           Communicator* replicas) {
  Bucket& bucket = buckets_.emplace_back();
  bucket.block = &block;
  bucket.all = all;
  if (replicas != nullptr && replicas->size() > 1) {
    bucket.replicas = replicas;
    bucket.rank = static_cast<std::size_t>(replicas->rank());
  }
  const std::int64_t size = bucket.replicas != nullptr ? replicas->size() : 1;
  for (std::int64_t r = 0; r < size; ++r) {
    const std::int64_t begin = all.begin + all.count * r / size;
    const std::int64_t count = all.begin + all.count * (r + 1) / size - begin;
    bucket.runs.push_back({begin, count});
    bucket.counts.push_back(count);
  }
  const std::int64_t copied = block.copy.view().elements();
  bucket.rounded = common(all, {0, copied});
  bucket.wide = common(all, {copied, block.master.view().elements() - copied});
  add_sections();
}

void Optimizer::add_sections() {
  const Bucket& bucket = buckets_.back();
  for (const auto& [parameter, begin] : bucket.block->members) {
    Section& section = sections_.emplace_back();
    section.parameter = parameter;
    section.bucket = buckets_.size() - 1;
    section.begin = begin;
    section.all =
        common(bucket.all, {begin, (*parameters_)[parameter].elements()});
    section.all.begin -= begin;
    const std::int64_t count = run(sections_.size() - 1).count;
    const DType wide = parameters_->precision().wide();
    section.first = Tensor(parameters_->backend(), wide, {count});
    section.second = Tensor(parameters_->backend(), wide, {count});
  }
}

Optimizer::Run Optimizer::run(std::size_t i, std::size_t replica) const {
  const Section& section = sections_[i];
  Run run = bucket(i).runs[replica];
  run.begin -= section.begin;
  return common(run, section.all);
}

TensorView Optimizer::own(std::size_t i, TensorView whole) const {
  return slice(whole.reshape({whole.elements()}), run(i));
}

template <class Issue>
void Optimizer::issue_all(const Communicator* replicas, const Issue& issue) {
  for (std::size_t i = buckets_.size(); i-- > 0;) {
    const Bucket& bucket = buckets_[i];
    if (bucket.replicas != nullptr && bucket.replicas == replicas) {
      issue(bucket);
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

Pending Optimizer::sum(const Bucket& bucket) {
  return bucket.replicas->reduce_scatter(
      {.phase = Phase::kGradients},
      slice(bucket.block->gradient.view(), bucket.all), bucket.counts);
}

void Optimizer::take(std::size_t group) {
  if (ranks_ == nullptr) return;
  const bool one_set = ranks_->replica_sets().size() == 1;
  for (std::size_t i = buckets_.size(); i-- > 0;) {
    const Bucket& bucket = buckets_[i];
    if (bucket.block->group != group || bucket.replicas == nullptr) continue;
    if (bucket.replicas == &ranks_->world()) {
      pending_.push_back(sum(bucket));
    } else if (one_set) {
      pending_of_set_.push_back(sum(bucket));
    }
  }
}

// Those of several sets last, and in one order on every rank.
void Optimizer::sum_gradients() {
  wait_for_all();
  if (ranks_ != nullptr && ranks_->replica_sets().size() > 1) {
    issue_in_turn([this](const Bucket& b) { pending_.push_back(sum(b)); });
  }
  pending_.swap(pending_of_set_);
  wait_for_all();
}

double Optimizer::gradient_norm() {
  Backend& backend = parameters_->backend();
  for (std::size_t i = 0; i < sections_.size(); ++i) {
    backend.kernels()(SumSquares{
        .x = own(i, (*parameters_)[parameter(i)].gradient()),
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
  const Section& section = sections_[i];
  const Bucket& bucket = this->bucket(i);
  Backend& backend = parameters_->backend();
  for (const auto& [moment, to] : {std::pair{section.first.view(), first},
                                   std::pair{section.second.view(), second}}) {
    if (to != nullptr) {
      backend.copy_to_host(to, moment.data(),
                           static_cast<std::size_t>(moment.bytes()));
    }
    if (bucket.replicas == nullptr) continue;
    std::vector<Communicator::Part> parts;
    const std::int64_t element = size_bytes(moment.dtype());
    for (std::size_t replica = 0; replica < bucket.runs.size(); ++replica) {
      const Run run = this->run(i, replica);
      const std::int64_t begin = run.begin - section.all.begin;
      parts.push_back({to == nullptr ? nullptr : to + begin * element,
                       run.count * element});
    }
    parts[bucket.rank].data = moment.data();
    wait(bucket.replicas->gather_v({}, 0, parts));
  }
}

double Optimizer::clip_scale(double norm) const {
  if (config_.clip == 0) return 1;
  return std::min(1.0, config_.clip / (norm + 1e-6));
}

void Optimizer::update(double rate, double scale, std::int64_t step) {
  for (std::size_t i = 0; i < sections_.size(); ++i) {
    const Parameter& parameter = (*parameters_)[this->parameter(i)];
    const bool decays =
        config_.decay == "all" || parameter.spec().shape.dimensions > 1;
    parameters_->backend().kernels()(
        AdamW{.x = own(i, parameter.master()),
              .gradient = own(i, parameter.gradient()),
              .m = sections_[i].first.view(),
              .v = sections_[i].second.view(),
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
  if (ranks_ == nullptr) return;
  const auto begin = [this](const Bucket& b) { gather_weights(b); };
  issue_all(&ranks_->world(), begin);
  issue_in_turn(begin);
  wait_for_all();
  // What was not this rank's own to move.
  for (const Bucket& bucket : buckets_) {
    if (bucket.replicas == nullptr) continue;
    const TensorView gradient =
        slice(bucket.block->gradient.view(), bucket.all);
    parameters_->backend().clear(gradient.data(),
                                 static_cast<std::size_t>(gradient.bytes()));
  }
}

void Optimizer::gather(const Bucket& bucket, Phase phase, TensorView block,
                       Run elements) {
  if (elements.count == 0) return;
  parts_.clear();
  for (const Run& run : bucket.runs) {
    const TensorView part = slice(block, common(run, elements));
    parts_.push_back({part.data(), part.bytes()});
  }
  pending_.push_back(bucket.replicas->all_gather_v({.phase = phase}, parts_));
}

void Optimizer::gather_weights(const Bucket& bucket) {
  const ParameterBlock& block = *bucket.block;
  gather(bucket, Phase::kParameters, block.copy.view(), bucket.rounded);
  gather(bucket, Phase::kParameters, block.master.view(), bucket.wide);
}

void Optimizer::gather_masters() {
  if (ranks_ == nullptr) return;
  const auto gather_rest = [this](const Bucket& b) {
    gather(b, Phase::kControl, b.block->master.view(), b.rounded);
  };
  issue_all(&ranks_->world(), gather_rest);
  issue_in_turn(gather_rest);
  wait_for_all();
}

}  // namespace catena
