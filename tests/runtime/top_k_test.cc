#include <algorithm>
#include <limits>
#include <numeric>

#include "tests/runtime/top_k_testing.h"

namespace catena::testing {
namespace {

const DType kTypes[] = {DType::kFloat32, DType::kFloat64};

double group_score(const Values& keys, const TopKRule& rule,
                   std::size_t group) {
  const std::size_t run = keys.size() / static_cast<std::size_t>(rule.groups);
  const auto begin = keys.begin() + static_cast<std::ptrdiff_t>(group * run);
  Values sorted(begin, begin + static_cast<std::ptrdiff_t>(run));
  std::sort(sorted.rbegin(), sorted.rend());
  return rule.group_score == GroupScore::kMax ? sorted[0]
                                              : sorted[0] + sorted[1];
}

/// Places of the largest keys; ties to the lowest place.
std::vector<std::size_t> best_places(const Values& keys, std::int64_t count) {
  std::vector<std::size_t> places(keys.size());
  std::iota(places.begin(), places.end(), 0u);
  std::stable_sort(
      places.begin(), places.end(),
      [&](std::size_t a, std::size_t b) { return keys[a] > keys[b]; });
  places.resize(static_cast<std::size_t>(count));
  return places;
}

/// The choice of one row, as the specification words it.
Values choose(const Values& scores, const Values& bias, const TopKRule& rule) {
  Values keys = scores;
  for (std::size_t c = 0; c < bias.size(); ++c) keys[c] += bias[c];
  Values group_scores;
  for (std::size_t g = 0; g < static_cast<std::size_t>(rule.groups); ++g) {
    group_scores.push_back(group_score(keys, rule, g));
  }
  const auto kept = best_places(group_scores, rule.top_groups);
  const std::size_t run = keys.size() / group_scores.size();
  for (std::size_t c = 0; c < keys.size(); ++c) {
    if (std::find(kept.begin(), kept.end(), c / run) == kept.end()) {
      keys[c] = -std::numeric_limits<double>::infinity();
    }
  }
  std::vector<std::size_t> chosen = best_places(keys, rule.k);
  std::sort(chosen.begin(), chosen.end());
  std::stable_sort(
      chosen.begin(), chosen.end(),
      [&](std::size_t a, std::size_t b) { return scores[a] > scores[b]; });
  return {chosen.begin(), chosen.end()};
}

/// All outputs but the index, for the chosen columns.
RoutedRows loop(const Values& logits, std::size_t columns, const TopKRule& rule,
                const Values& index) {
  RoutedRows r;
  r.index = index;
  const auto k = static_cast<std::size_t>(rule.k);
  for (std::size_t i = 0; i < logits.size() / columns; ++i) {
    const double* row = logits.data() + i * columns;
    double exponentials = 0, scores = 0, entropy = 0, chosen = 1e-20;
    for (std::size_t c = 0; c < columns; ++c) exponentials += std::exp(row[c]);
    for (std::size_t c = 0; c < columns; ++c) {
      r.scores.push_back(rule.score == Score::kSoftmax
                             ? std::exp(row[c]) / exponentials
                             : 1 / (1 + std::exp(-row[c])));
      scores += r.scores.back();
    }
    const double* score = r.scores.data() + i * columns;
    for (std::size_t c = 0; c < columns; ++c) {
      r.probability.push_back(score[c] / scores);
      entropy -= r.probability.back() * std::log(r.probability.back());
    }
    r.log_sum_exp.push_back(std::log(exponentials));
    r.entropy.push_back(entropy);
    const auto at = [&](std::size_t j) {
      return score[static_cast<std::size_t>(index[i * k + j])];
    };
    for (std::size_t j = 0; j < k; ++j) chosen += at(j);
    for (std::size_t j = 0; j < k; ++j) {
      r.weights.push_back(rule.scale * at(j) / (rule.renormalize ? chosen : 1));
    }
  }
  return r;
}

void expect_row_agreement(const RoutedRows& actual, const RoutedRows& expected,
                          DType type) {
  const double limit = tolerance(type);
  EXPECT_EQ(actual.index, expected.index);
  expect_close(actual.scores, expected.scores, limit, "scores");
  expect_close(actual.probability, expected.probability, limit, "probability");
  expect_close(actual.weights, expected.weights, limit, "weights");
  expect_close(actual.log_sum_exp, expected.log_sum_exp, limit, "log_sum_exp");
  expect_close(actual.entropy, expected.entropy, limit, "entropy");
}

void expect_top_k(DType type, const TopKRule& rule, std::int64_t columns,
                  std::int64_t rows, bool biased) {
  const auto width = static_cast<std::size_t>(columns);
  const Values logits = rounded(type, random_values(rows * columns, 1, 2));
  const Values bias =
      biased ? rounded(type, random_values(columns, 2, 0.1)) : Values{};
  const RoutedRows actual =
      run_top_k(cpu(2), type, {rows, columns}, logits, bias, {}, rule);
  Values index;
  for (std::size_t i = 0; i < static_cast<std::size_t>(rows); ++i) {
    const double* row = actual.scores.data() + i * width;
    append(index, choose(Values(row, row + width), bias, rule));
  }
  expect_row_agreement(actual, loop(logits, width, rule, index), type);
}

TEST(TopKTest, AgreesWithLoop) {
  for (const DType type : kTypes) {
    for (const auto& [rule, columns] : top_k_rules()) {
      for (const std::int64_t rows : {0, 1, 33}) {
        for (const bool biased : {false, true}) {
          expect_top_k(type, rule, columns, rows, biased);
        }
      }
    }
  }
}

TEST(TopKTest, AgreesWithLoopOnRandomShapes) {
  for_random_shapes([](Sizes& draw) {
    const auto [rule, columns] = random_rule(draw);
    const std::int64_t rows = draw(0, 40);
    const bool biased = draw.flag();
    for (const DType type : kTypes) {
      expect_top_k(type, rule, columns, rows, biased);
    }
  });
}

TEST(TopKTest, ForcedChoicesOnlyGetWeights) {
  for (const DType type : kTypes) {
    for (const auto& [rule, columns] : top_k_rules()) {
      const Values logits = rounded(type, random_values(17 * columns, 1));
      const Values forced = random_integers(17 * rule.k, 3, 0, columns);
      const RoutedRows actual =
          run_top_k(cpu(2), type, {17, columns}, logits, {}, forced, rule);
      expect_row_agreement(
          actual, loop(logits, static_cast<std::size_t>(columns), rule, forced),
          type);
    }
  }
}

TEST(TopKTest, TiesGoToTheLowestColumn) {
  const TopKRule rule{.k = 3};
  const Values logits = {1, 2, 1, 2, 1, 1};
  EXPECT_EQ(
      run_top_k(cpu(1), DType::kFloat32, {1, 6}, logits, {}, {}, rule).index,
      (Values{1, 3, 0}));
  // Groups {1, 2}, {2, 1}, {2, 0} tie at 2: the two lowest remain.
  const TopKRule grouped{.k = 3, .groups = 3, .top_groups = 2};
  EXPECT_EQ(run_top_k(cpu(1), DType::kFloat32, {1, 6}, {1, 2, 2, 1, 2, 0}, {},
                      {}, grouped)
                .index,
            (Values{1, 2, 0}));
}

TEST(TopKTest, HasNoColumnTwiceWhateverTheLogits) {
  const double nan = std::nan("");
  const double infinity = std::numeric_limits<double>::infinity();
  const Values rows[] = {Values(8, nan),
                         {nan, 1, nan, 2, nan, nan, 0, nan},
                         Values(8, -infinity),
                         {infinity, infinity, 0, nan, 1, 2, 3, 4},
                         {-infinity, 0, -infinity, 1, nan, nan, 2, 3}};
  for (const auto& [rule, columns] : top_k_rules()) {
    if (columns != 8) continue;
    for (const Values& logits : rows) {
      Values index =
          run_top_k(cpu(1), DType::kFloat32, {1, 8}, logits, {}, {}, rule)
              .index;
      std::sort(index.begin(), index.end());
      EXPECT_EQ(std::unique(index.begin(), index.end()), index.end());
      EXPECT_GE(index.front(), 0);
      EXPECT_LT(index.back(), 8);
    }
  }
}

TEST(TopKTest, LargeLogitsStayFinite) {
  for (const Score score : {Score::kSoftmax, Score::kSigmoid}) {
    const TopKRule rule{.score = score, .k = 2};
    const RoutedRows r = run_top_k(cpu(1), DType::kFloat32, {1, 4},
                                   {500, -500, 499, -1e4}, {}, {}, rule);
    for (const Values* part :
         {&r.scores, &r.probability, &r.weights, &r.log_sum_exp, &r.entropy}) {
      for (const double value : *part) EXPECT_TRUE(std::isfinite(value));
    }
    EXPECT_EQ(r.index, (Values{0, 2}));
  }
}

TEST(TopKTest, ScoresMayBeTheProbabilities) {
  const TopKRule rule{.k = 2};
  const Values logits = random_values(3 * 8, 1);
  Backend& backend = cpu(1);
  const DType type = DType::kFloat32;
  const RoutedRows apart =
      run_top_k(backend, type, {3, 8}, logits, {}, {}, rule);
  const TestTensor in(backend, type, {3, 8}, logits);
  const TestTensor scores(backend, type, {3, 8});
  const TestTensor index(backend, DType::kInt32, {3, 2});
  const TestTensor weights(backend, type, {3, 2});
  const TestTensor log_sum_exp(backend, type, {3}), entropy(backend, type, {3});
  backend.kernels()(TopK{.rule = rule,
                         .logits = in,
                         .bias = {},
                         .forced = {},
                         .scores = scores,
                         .probability = scores,
                         .index = index,
                         .weights = weights,
                         .log_sum_exp = log_sum_exp,
                         .entropy = entropy});
  EXPECT_EQ(scores.values(), apart.probability);
  EXPECT_EQ(index.values(), apart.index);
}

TEST(TopKTest, RefusesForcedColumnsOutOfRange) {
  const TopKRule rule{.k = 1};
  for (const double column : {-1.0, 4.0}) {
    EXPECT_THROW(run_top_k(cpu(1), DType::kFloat32, {1, 4}, {1, 2, 3, 4}, {},
                           {column}, rule),
                 Error);
  }
}

TEST(TopKTest, BitsDoNotDependOnThreads) {
  for (const auto& [rule, columns] : top_k_rules()) {
    const Values logits = random_values(301 * columns, 1);
    const Values bias = random_values(columns, 2, 0.1);
    expect_same_for_any_threads(
        [&, rule = rule, columns = columns](Backend& backend) {
          return run_top_k(backend, DType::kFloat32, {301, columns}, logits,
                           bias, {}, rule)
              .all();
        });
  }
}

}  // namespace
}  // namespace catena::testing
