#include "tests/support/kernel_testing.h"

namespace catena::testing {
namespace {

using CrossEntropyTest = KernelTest;
constexpr double kScale = 0.25;

struct Case {
  std::int64_t rows, columns, padding;
};
const Case kCases[] = {{0, 16, 0},   {1, 1, 0},   {3, 17, 5},  {33, 64, 0},
                       {7, 1025, 3}, {65, 31, 1}, {2, 9000, 0}};

struct Problem {
  Values logits, target;
};

/// Every fifth row or so has no target.
Problem make_problem(DType type, const Case& c) {
  Values target = random_integers(c.rows, 2, 0, c.columns);
  for (std::size_t i = 1; i < target.size(); i += 5) target[i] = -1;
  return {
      .logits = rounded(wide(type), random_values(c.rows * c.columns, 1, 4)),
      .target = target};
}

/// loss, gradient.
Values loop(const Problem& p, const Case& c) {
  const auto columns = static_cast<std::size_t>(c.columns);
  Values loss(p.target.size()), gradient(p.logits.size());
  for (std::size_t i = 0; i < loss.size(); ++i) {
    if (p.target[i] < 0) continue;
    const double* row = p.logits.data() + i * columns;
    double sum = 0;
    for (std::size_t j = 0; j < columns; ++j) sum += std::exp(row[j]);
    const auto target = static_cast<std::size_t>(p.target[i]);
    loss[i] = std::log(sum) - row[target];
    for (std::size_t j = 0; j < columns; ++j) {
      gradient[i * columns + j] =
          kScale * (std::exp(row[j]) / sum - (j == target ? 1 : 0));
    }
  }
  append(loss, gradient);
  return loss;
}

enum class Gradient { kNone, kApart, kInPlace };

Values run(Backend& backend, DType type, const Problem& p, const Case& c,
           Gradient where) {
  const Shape shape{c.rows, c.columns};
  const TestTensor logits(backend, wide(type), shape, p.logits, c.padding);
  const TestTensor target(backend, DType::kInt32, {c.rows}, p.target);
  const TestTensor loss(backend, wide(type), {c.rows});
  const TestTensor apart(backend, type, shape, c.padding);
  TensorView gradient;
  if (where == Gradient::kApart) gradient = apart;
  if (where == Gradient::kInPlace) gradient = logits;
  backend.kernels()(CrossEntropy{.logits = logits,
                                 .target = target,
                                 .loss = loss,
                                 .gradient = gradient,
                                 .scale = kScale});
  EXPECT_TRUE(apart.padding_intact() && logits.padding_intact());
  Values all = loss.values();
  if (where == Gradient::kApart) append(all, apart.values());
  if (where == Gradient::kInPlace) append(all, logits.values());
  return all;
}

void expect_agreement(DType type, const Case& c) {
  const Problem p = make_problem(type, c);
  Values expected = loop(p, c);
  Values actual = run(cpu(2), type, p, c, Gradient::kApart);
  expect_close(actual, expected, tolerance(type), "loss and gradient");
  const auto rows = static_cast<std::ptrdiff_t>(c.rows);
  expect_close(Values(actual.begin() + rows, actual.end()),
               Values(expected.begin() + rows, expected.end()), tolerance(type),
               "gradient");
  expected.resize(static_cast<std::size_t>(c.rows));
  expect_close(run(cpu(2), type, p, c, Gradient::kNone), expected,
               tolerance(wide(type)), "loss alone");
}

TEST_P(CrossEntropyTest, AgreesWithLoop) {
  for (const Case& c : kCases) expect_agreement(dtype(), c);
}

TEST_P(CrossEntropyTest, AgreesWithLoopOnRandomShapes) {
  for_random_shapes([](Sizes& draw) {
    const Case c{draw(0, 35), draw(2, 300), draw(0, 9)};
    expect_agreement(dtype(), c);
  });
}

TEST_P(CrossEntropyTest, GradientMayReplaceLogits) {
  const Case c{9, 700, 1};
  const Problem p = make_problem(wide_dtype(), c);
  EXPECT_EQ(run(cpu(1), wide_dtype(), p, c, Gradient::kInPlace),
            run(cpu(1), wide_dtype(), p, c, Gradient::kApart));
}

TEST_P(CrossEntropyTest, LargeLogitsDoNotOverflow) {
  const Problem p{.logits = {1000, 990, -1000}, .target = {1}};
  const Values actual = run(cpu(1), dtype(), p, {1, 3, 0}, Gradient::kApart);
  EXPECT_NEAR(actual[0], 10 + std::log1p(std::exp(-10.0)), 1e-4);
  EXPECT_NEAR(actual[1], kScale, 1e-3);
  EXPECT_EQ(actual[3], 0);
}

TEST_P(CrossEntropyTest, RefusesTargetsBeyondTheColumns) {
  const Problem p{.logits = {0, 0, 0}, .target = {3}};
  EXPECT_THROW(run(cpu(1), dtype(), p, {1, 3, 0}, Gradient::kNone), Error);
}

TEST_P(CrossEntropyTest, BitsDoNotDependOnThreads) {
  const Case c{61, 1300, 0};
  const Problem p = make_problem(dtype(), c);
  expect_same_for_any_threads([&](Backend& backend) {
    return run(backend, dtype(), p, c, Gradient::kApart);
  });
}

CATENA_FOR_FLOATING_TYPES(CrossEntropyTest);

TEST(CrossEntropyGradientTest, IsTheDerivative) {
  const Case c{4, 13, 1};
  Problem p = make_problem(DType::kFloat64, c);
  const Values expected = numeric_gradient(
      [&](const Values& logits) {
        const Values loss =
            run(cpu(1), DType::kFloat64, {.logits = logits, .target = p.target},
                c, Gradient::kNone);
        double sum = 0;
        for (const double value : loss) sum += kScale * value;
        return sum;
      },
      p.logits);
  Values actual = run(cpu(1), DType::kFloat64, p, c, Gradient::kApart);
  actual.erase(actual.begin(), actual.begin() + c.rows);
  expect_close(actual, expected, kDifferenceTolerance, "gradient");
}

}  // namespace
}  // namespace catena::testing
