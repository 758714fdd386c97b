#include "tests/runtime/top_k_testing.h"

namespace catena::testing {
namespace {

constexpr std::int64_t kRows = 5, kSegments = 2;
constexpr double kZ = 0.03;

struct Problem {
  TopKRule rule;
  std::int64_t columns;
  Values logits, d_weights, d_probability, segment;
};

Problem make_problem(DType type, const TopKRule& rule, std::int64_t columns,
                     std::int64_t rows = kRows) {
  return {.rule = rule,
          .columns = columns,
          .logits = rounded(type, random_values(rows * columns, 1)),
          .d_weights = rounded(type, random_values(rows * rule.k, 2)),
          .d_probability = rounded(type, random_values(kSegments * columns, 3)),
          .segment = random_integers(rows, 4, 0, kSegments)};
}

/// The scalar whose gradient the kernel gives; the choice stays as it is.
double objective(const Problem& p, const Values& logits, const Values& index,
                 bool balanced) {
  const auto rows = static_cast<std::int64_t>(p.segment.size());
  const RoutedRows r = run_top_k(cpu(1), DType::kFloat64, {rows, p.columns},
                                 logits, {}, index, p.rule);
  double sum = dot(p.d_weights, r.weights);
  const auto columns = static_cast<std::size_t>(p.columns);
  for (std::size_t e = 0; balanced && e < r.probability.size(); ++e) {
    const auto segment = static_cast<std::size_t>(p.segment[e / columns]);
    sum += p.d_probability[segment * columns + e % columns] * r.probability[e];
  }
  return sum + kZ * dot(r.log_sum_exp, r.log_sum_exp);
}

Values run_gradient(Backend& backend, DType type, const Problem& p,
                    const RoutedRows& r, bool balanced) {
  const auto rows = static_cast<std::int64_t>(p.segment.size());
  const Shape shape{rows, p.columns}, choices{rows, p.rule.k};
  const TestTensor scores(backend, type, shape, r.scores, 1);
  const TestTensor probability(backend, type, shape, r.probability, 2);
  const TestTensor index(backend, DType::kInt32, choices, r.index, 3);
  const TestTensor log_sum_exp(backend, type, {rows}, r.log_sum_exp);
  const TestTensor logits(backend, type, shape, p.logits, 4);
  const TestTensor d_weights(backend, type, choices, p.d_weights, 1);
  const TestTensor d_probability(backend, type, {kSegments, p.columns},
                                 p.d_probability, 2);
  const TestTensor segment(backend, DType::kInt32, {rows}, p.segment);
  const TestTensor d_logits(backend, type, shape, 5);
  backend.kernels()(TopKGradient{
      .rule = p.rule,
      .scores = scores,
      .probability = probability,
      .index = index,
      .log_sum_exp = log_sum_exp,
      .logits = logits,
      .d_weights = d_weights,
      .d_probability = balanced ? d_probability.view() : TensorView(),
      .segment = balanced ? segment.view() : TensorView(),
      .z_coefficient = kZ,
      .d_logits = d_logits});
  EXPECT_TRUE(d_logits.padding_intact());
  return d_logits.values();
}

RoutedRows forward(DType type, const Problem& p) {
  const auto rows = static_cast<std::int64_t>(p.segment.size());
  return run_top_k(cpu(1), type, {rows, p.columns}, p.logits, {}, {}, p.rule);
}

void expect_derivative(const Problem& p, bool balanced) {
  const DType type = DType::kFloat64;
  const RoutedRows r = forward(type, p);
  const Values expected = numeric_gradient(
      [&](const Values& logits) {
        return objective(p, logits, r.index, balanced);
      },
      p.logits);
  expect_close(run_gradient(cpu(1), type, p, r, balanced), expected,
               kDifferenceTolerance, "d_logits");
}

/// Float64 is checked against differences; float32 against float64.
void expect_same_in_float32(const Problem& p, bool balanced) {
  const RoutedRows r = forward(DType::kFloat64, p);
  expect_close(run_gradient(cpu(2), DType::kFloat32, p, r, balanced),
               run_gradient(cpu(2), DType::kFloat64, p, r, balanced), 1e-5,
               "d_logits");
}

TEST(TopKGradientTest, IsTheDerivative) {
  for (const auto& [rule, columns] : top_k_rules()) {
    for (const bool balanced : {false, true}) {
      expect_derivative(make_problem(DType::kFloat64, rule, columns), balanced);
    }
  }
}

TEST(TopKGradientTest, AgreesAcrossTypes) {
  for (const auto& [rule, columns] : top_k_rules()) {
    expect_same_in_float32(make_problem(DType::kFloat32, rule, columns), true);
  }
}

TEST(TopKGradientTest, IsTheDerivativeOfRandomShapes) {
  for_random_shapes([](Sizes& draw) {
    const auto [rule, columns] = random_rule(draw);
    const std::int64_t rows = draw(0, 5);
    const bool balanced = draw.flag();
    expect_derivative(make_problem(DType::kFloat64, rule, columns, rows),
                      balanced);
    expect_same_in_float32(
        make_problem(DType::kFloat32, rule, columns, 4 * rows), balanced);
  });
}

TEST(TopKGradientTest, AcceptsNoRows) {
  const Problem p = make_problem(DType::kFloat32, {.k = 2}, 8, 0);
  EXPECT_TRUE(run_gradient(cpu(1), DType::kFloat32, p,
                           forward(DType::kFloat32, p), true)
                  .empty());
}

TEST(TopKGradientTest, RefusesSegmentsOutOfRange) {
  Problem p = make_problem(DType::kFloat32, {.k = 2}, 8);
  const RoutedRows r = forward(DType::kFloat32, p);
  for (const double segment : {-1.0, static_cast<double>(kSegments)}) {
    p.segment[0] = segment;
    EXPECT_THROW(run_gradient(cpu(1), DType::kFloat32, p, r, true), Error);
  }
}

TEST(TopKGradientTest, BitsDoNotDependOnThreads) {
  for (const auto& [rule, columns] : top_k_rules()) {
    const Problem p = make_problem(DType::kFloat32, rule, columns, 301);
    const RoutedRows r = forward(DType::kFloat32, p);
    expect_same_for_any_threads([&](Backend& backend) {
      return run_gradient(backend, DType::kFloat32, p, r, true);
    });
  }
}

}  // namespace
}  // namespace catena::testing
