#include "layers/router.h"

#include <cmath>
#include <numeric>

namespace catena {

Router::Router(ParameterSet& set, const std::string& name,
               const ModelConfig& config)
    : name_(name),
      config_(config.router),
      rule_{.score =
                config_.score == "softmax" ? Score::kSoftmax : Score::kSigmoid,
            .k = config.chain.top_k,
            .groups = config_.groups,
            .top_groups = config_.top_groups,
            .group_score = config_.group_score == "max"
                               ? GroupScore::kMax
                               : GroupScore::kTopTwoSum,
            .renormalize = config_.renormalize,
            .scale = config_.scale},
      experts_(config.chain.routed_experts) {
  const Shape shape{experts_, config.hidden};
  weight_ =
      &set.add({.shape = shape,
                .parts = {{name + ".weight", 0, shape}},
                .initializer = Initializer::kUniform,
                .range = 1 / std::sqrt(static_cast<double>(config.hidden)),
                .matrix = false});
  if (config_.correction_bias) {
    bias_ = Tensor(set.backend(), set.precision().wide(), {experts_});
  }
}

void Router::forward(Chunk& chunk, std::int64_t layer, std::int64_t iteration,
                     TensorView x, const RoutingStatistics::Cell& cell,
                     Saved& saved) const {
  const std::int64_t tokens = chunk.tokens;
  const DType wide = chunk.wide();
  saved.x = x;
  if (chunk.compute() != wide) {
    saved.x = chunk.keep(wide, x.shape());
    chunk.kernels()(Copy{.from = x, .to = saved.x});
  }
  saved.logits = chunk.keep(wide, {tokens, experts_});
  chunk.kernels()(Gemm{.a = saved.x,
                       .b = weight_->master(),
                       .c = saved.logits,
                       .transpose_b = true});
  saved.scores = chunk.keep(wide, {tokens, experts_});
  saved.probability = rule_.score == Score::kSoftmax
                          ? saved.scores
                          : chunk.keep(wide, {tokens, experts_});
  saved.index = chunk.keep(DType::kInt32, {tokens, rule_.k});
  saved.weights = chunk.keep(wide, {tokens, rule_.k});
  saved.log_sum_exp = chunk.keep(wide, {tokens});
  saved.entropy = chunk.keep(wide, {tokens});
  TensorView forced = chunk.balanced_routes;
  if (chunk.observer != nullptr && !forced.defined()) {
    forced = chunk.observer->forced_routes(chunk, layer, iteration);
  }
  chunk.kernels()(TopK{.rule = rule_,
                       .logits = saved.logits,
                       .bias = bias_.view(),
                       .forced = forced,
                       .scores = saved.scores,
                       .probability = saved.probability,
                       .index = saved.index,
                       .weights = saved.weights,
                       .log_sum_exp = saved.log_sum_exp,
                       .entropy = saved.entropy});
  if (chunk.observer != nullptr) {
    chunk.observer->routed(chunk, layer, iteration,
                           {.index = saved.index,
                            .weight = saved.weights,
                            .scores = saved.scores,
                            .bias = bias_.view()});
  }
  if (chunk.training) count(chunk, cell, saved);
}

void Router::count(Chunk& chunk, const RoutingStatistics::Cell& cell,
                   Saved& saved) const {
  const ArenaScope scope(chunk.scratch);
  const bool over_batch = config_.auxiliary_scope == "batch";
  const Shape per_sequence{chunk.sequences, experts_};
  saved.d_probability =
      chunk.keep(chunk.wide(), over_batch ? Shape{1, experts_} : per_sequence);
  const TensorView sums = chunk.temporary(chunk.wide(), per_sequence);
  const TensorView counts = chunk.temporary(chunk.wide(), per_sequence);
  chunk.kernels()(Fill{.x = sums});
  chunk.kernels()(Fill{.x = counts});
  chunk.kernels()(SegmentSums{.x = saved.probability,
                              .index = saved.index,
                              .segment = chunk.sequence,
                              .sums = sums,
                              .counts = counts});
  const auto add_column_sums = [&](TensorView x, TensorView to) {
    const TensorView sum = chunk.temporary(chunk.wide(), {1, experts_});
    chunk.kernels()(
        SumMiddle{.x = x.reshape({1, chunk.sequences, experts_}), .out = sum});
    if (sum.dtype() == to.dtype()) {
      chunk.kernels()(Add{.a = to, .b = sum, .out = to});
      return;
    }
    const TensorView converted = chunk.temporary(to.dtype(), {1, experts_});
    chunk.kernels()(Copy{.from = sum, .to = converted});
    chunk.kernels()(Add{.a = to, .b = converted, .out = to});
  };
  add_column_sums(counts, cell.load);
  add_sum(chunk, saved.entropy, cell.entropy, false);
  add_sum(chunk, saved.log_sum_exp, cell.z, true);
  if (over_batch) {
    add_column_sums(sums, cell.batch_sums);
    add_column_sums(counts, cell.batch_counts);
    return;
  }
  chunk.kernels()(BalanceLoss{
      .sums = sums,
      .counts = counts,
      .length = chunk.sequence_length,
      .d_probability = saved.d_probability,
      .loss = cell.auxiliary,
      .k = rule_.k,
      .coefficient = config_.auxiliary_loss * chunk.scale.per_sequence});
}

// The choices of all chunks of the accumulation step are known only after
// every forward, so this belongs to backward. Every chunk forms the same
// gradient; only the first one of all ranks, though it may be empty, reports
// the loss.
void Router::balance_over_batch(Chunk& chunk,
                                const RoutingStatistics::Cell& cell,
                                Saved& saved) const {
  const TensorView loss = chunk.temporary(chunk.wide(), {1});
  chunk.kernels()(BalanceLoss{
      .sums = cell.batch_sums,
      .counts = cell.batch_counts,
      .length = chunk.batch_length,
      .d_probability = saved.d_probability,
      .loss = chunk.reports_batch ? cell.auxiliary : loss,
      .k = rule_.k,
      .coefficient = config_.auxiliary_loss * chunk.scale.per_batch});
}

void Router::backward(Chunk& chunk, const RoutingStatistics::Cell& cell,
                      Saved& saved, TensorView d_weights,
                      TensorView d_x) const {
  const ArenaScope scope(chunk.scratch);
  const bool over_batch = config_.auxiliary_scope == "batch";
  if (over_batch) balance_over_batch(chunk, cell, saved);
  if (chunk.sequences == 0) return;
  const TensorView d_logits =
      chunk.temporary(chunk.wide(), saved.logits.shape());
  chunk.kernels()(
      TopKGradient{.rule = rule_,
                   .scores = saved.scores,
                   .probability = saved.probability,
                   .index = saved.index,
                   .log_sum_exp = saved.log_sum_exp,
                   .logits = saved.logits,
                   .d_weights = d_weights,
                   .d_probability = saved.d_probability,
                   .segment = over_batch ? chunk.one_segment : chunk.sequence,
                   .z_coefficient = config_.z_loss * chunk.scale.per_token,
                   .d_logits = d_logits});
  chunk.kernels()(Gemm{.a = d_logits,
                       .b = saved.x,
                       .c = weight_->gradient(),
                       .transpose_a = true,
                       .accumulate = true});
  if (chunk.compute() == chunk.wide()) {
    chunk.kernels()(Gemm{
        .a = d_logits, .b = weight_->master(), .c = d_x, .accumulate = true});
    return;
  }
  const TensorView wide = chunk.temporary(chunk.wide(), d_x.shape());
  const TensorView narrow = chunk.temporary(chunk.compute(), d_x.shape());
  chunk.kernels()(Gemm{.a = d_logits, .b = weight_->master(), .c = wide});
  chunk.kernels()(Copy{.from = wide, .to = narrow});
  chunk.kernels()(Add{.a = d_x, .b = narrow, .out = d_x});
}

void Router::update_bias(Backend& backend, const std::vector<double>& load) {
  if (!bias_.defined()) return;
  const double mean = std::accumulate(load.begin(), load.end(), 0.0) /
                      static_cast<double>(load.size());
  bias_values_.resize(load.size());
  read_values(backend, bias_.view(), bias_values_);
  for (std::size_t e = 0; e < load.size(); ++e) {
    if (load[e] < mean) bias_values_[e] += config_.bias_update_rate;
    if (load[e] > mean) bias_values_[e] -= config_.bias_update_rate;
  }
  write_values(backend, bias_.view(), bias_values_);
}

}  // namespace catena
