#pragma once

#include <utility>

#include "tests/support/kernel_testing.h"

namespace catena::testing {

/// What TopK writes.
struct RoutedRows {
  Values scores, probability, index, weights, log_sum_exp, entropy;

  [[nodiscard]] Values all() const {
    Values result;
    for (const Values* part :
         {&scores, &probability, &index, &weights, &log_sum_exp, &entropy}) {
      append(result, *part);
    }
    return result;
  }
};

/// Rules and the columns to try them with.
inline std::vector<std::pair<TopKRule, std::int64_t>> top_k_rules() {
  std::vector<std::pair<TopKRule, std::int64_t>> rules;
  for (const Score score : {Score::kSoftmax, Score::kSigmoid}) {
    for (const bool renormalize : {false, true}) {
      const TopKRule plain{.score = score,
                           .k = 1,
                           .groups = 1,
                           .top_groups = 1,
                           .group_score = GroupScore::kMax,
                           .renormalize = renormalize,
                           .scale = 2.5};
      TopKRule rule = plain;
      rules.emplace_back(rule, 1);
      rule.k = 4;
      rules.emplace_back(rule, 63);
      rule.k = 20;
      rules.emplace_back(rule, 129);
      rule.k = 8;
      rules.emplace_back(rule, 8);
      rule.k = 3;
      rule.groups = 4;
      rule.top_groups = 2;
      rules.emplace_back(rule, 8);
      rule.group_score = GroupScore::kTopTwoSum;
      rules.emplace_back(rule, 8);
      rule.k = 6;
      rule.groups = 8;
      rules.emplace_back(rule, 64);
    }
  }
  return rules;
}

/// A rule that its columns allow, and those columns.
inline std::pair<TopKRule, std::int64_t> random_rule(Sizes& draw) {
  TopKRule rule;
  rule.score = draw.flag() ? Score::kSoftmax : Score::kSigmoid;
  rule.renormalize = draw.flag();
  rule.scale = 2.5;
  rule.groups = draw(1, 8);
  rule.top_groups = draw(1, rule.groups);
  const std::int64_t run = draw(2, rule.groups == 1 ? 70 : 9);
  rule.group_score = draw.flag() ? GroupScore::kMax : GroupScore::kTopTwoSum;
  rule.k = draw(1, std::min<std::int64_t>(run * rule.top_groups, 20));
  return {rule, rule.groups * run};
}

/// Empty bias and forced are left undefined.
inline RoutedRows run_top_k(Backend& backend, DType type, const Shape& shape,
                            const Values& logits, const Values& bias,
                            const Values& forced, const TopKRule& rule) {
  const Shape choices{shape[0], rule.k};
  const TestTensor in(backend, type, shape, logits, 3);
  const TestTensor offset(backend, type, {shape[1]},
                          bias.empty() ? random_values(shape[1], 0) : bias);
  const TestTensor fixed(
      backend, DType::kInt32, choices,
      forced.empty() ? Values(static_cast<std::size_t>(choices.elements()))
                     : forced,
      2);
  const TestTensor scores(backend, type, shape, 1);
  const TestTensor probability(backend, type, shape, 2);
  const TestTensor index(backend, DType::kInt32, choices, 1);
  const TestTensor weights(backend, type, choices, 4);
  const TestTensor log_sum_exp(backend, type, {shape[0]});
  const TestTensor entropy(backend, type, {shape[0]});
  backend.kernels()(TopK{.rule = rule,
                         .logits = in,
                         .bias = bias.empty() ? TensorView() : offset.view(),
                         .forced = forced.empty() ? TensorView() : fixed.view(),
                         .scores = scores,
                         .probability = probability,
                         .index = index,
                         .weights = weights,
                         .log_sum_exp = log_sum_exp,
                         .entropy = entropy});
  for (const TestTensor* written : {&scores, &probability, &index, &weights}) {
    EXPECT_TRUE(written->padding_intact());
  }
  return {.scores = scores.values(),
          .probability = probability.values(),
          .index = index.values(),
          .weights = weights.values(),
          .log_sum_exp = log_sum_exp.values(),
          .entropy = entropy.values()};
}

}  // namespace catena::testing
