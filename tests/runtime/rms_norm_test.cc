#include "tests/support/kernel_testing.h"

namespace catena::testing {
namespace {

using RmsNormTest = KernelTest;
constexpr double kEpsilon = 1e-3;

struct Case {
  std::int64_t rows, columns, padding;
};
const Case kCases[] = {{0, 16, 0},  {1, 1, 0},    {3, 17, 5},  {33, 64, 0},
                       {7, 513, 3}, {200, 31, 1}, {65, 256, 8}};

struct Problem {
  Values x, weight, d_out, d_x, d_weight;
};

Problem make_problem(DType type, const Case& c) {
  const std::int64_t n = c.rows * c.columns;
  return {.x = rounded(type, random_values(n, 1)),
          .weight = rounded(wide(type), random_values(c.columns, 2)),
          .d_out = rounded(type, random_values(n, 3)),
          .d_x = rounded(type, random_values(n, 4)),
          .d_weight = rounded(wide(type), random_values(c.columns, 5))};
}

/// 1 / sqrt(mean(x^2) + epsilon) of every row.
Values inverse_rms(const Problem& p, const Case& c) {
  Values result;
  for (std::int64_t i = 0; i < c.rows; ++i) {
    double sum = 0;
    for (std::int64_t j = 0; j < c.columns; ++j) {
      const double x = p.x[static_cast<std::size_t>(i * c.columns + j)];
      sum += x * x;
    }
    result.push_back(
        1 / std::sqrt(sum / static_cast<double>(c.columns) + kEpsilon));
  }
  return result;
}

Values forward_loop(const Problem& p, const Case& c) {
  const Values inverse = inverse_rms(p, c);
  const auto columns = static_cast<std::size_t>(c.columns);
  Values out(p.x.size());
  for (std::size_t e = 0; e < out.size(); ++e) {
    out[e] = p.x[e] * inverse[e / columns] * p.weight[e % columns];
  }
  return out;
}

/// Adds into d_x (if accumulate) and d_weight.
void gradient_loop(Problem& p, const Case& c, bool accumulate) {
  const Values inverse = inverse_rms(p, c);
  const auto columns = static_cast<std::size_t>(c.columns);
  for (std::size_t i = 0; i < inverse.size(); ++i) {
    double mean = 0;
    for (std::size_t j = 0; j < columns; ++j) {
      const std::size_t e = i * columns + j;
      mean += p.d_out[e] * p.weight[j] * p.x[e] * inverse[i];
    }
    mean /= static_cast<double>(columns);
    for (std::size_t j = 0; j < columns; ++j) {
      const std::size_t e = i * columns + j;
      const double n = p.x[e] * inverse[i];
      const double d_x = inverse[i] * (p.d_out[e] * p.weight[j] - n * mean);
      p.d_x[e] = d_x + (accumulate ? p.d_x[e] : 0);
      p.d_weight[j] += p.d_out[e] * n;
    }
  }
}

/// out, inverse_rms.
Values run_forward(Backend& backend, DType type, const Problem& p,
                   const Case& c) {
  const TestTensor x(backend, type, {c.rows, c.columns}, p.x, c.padding);
  const TestTensor weight(backend, wide(type), {c.columns}, p.weight);
  const TestTensor out(backend, type, {c.rows, c.columns}, c.padding);
  const TestTensor inverse(backend, wide(type), {c.rows});
  backend.kernels()(RmsNorm{.x = x,
                            .residual = {},
                            .weight = weight,
                            .out = out,
                            .inverse_rms = inverse,
                            .epsilon = kEpsilon});
  EXPECT_TRUE(out.padding_intact());
  Values result = out.values();
  append(result, inverse.values());
  return result;
}

/// d_x, d_weight. With `in_place`, d_x is d_out.
Values run_gradient(Backend& backend, DType type, const Problem& p,
                    const Case& c, bool accumulate, bool in_place) {
  const Shape shape{c.rows, c.columns};
  const DType wide_type = wide(type);
  const TestTensor x(backend, type, shape, p.x, c.padding);
  const TestTensor weight(backend, wide_type, {c.columns}, p.weight);
  const TestTensor inverse(backend, wide_type, {c.rows}, inverse_rms(p, c));
  const TestTensor d_out(backend, type, shape, p.d_out, c.padding);
  const TestTensor d_x(backend, type, shape, p.d_x, c.padding);
  const TestTensor d_weight(backend, wide_type, {c.columns}, p.d_weight);
  backend.kernels()(RmsNormGradient{.d_out = d_out,
                                    .x = x,
                                    .weight = weight,
                                    .inverse_rms = inverse,
                                    .d_x = in_place ? d_out : d_x,
                                    .d_weight = d_weight,
                                    .accumulate = accumulate});
  EXPECT_TRUE(d_x.padding_intact() && d_out.padding_intact());
  Values result = in_place ? d_out.values() : d_x.values();
  append(result, d_weight.values());
  return result;
}

void expect_forward(DType type, const Case& c) {
  const Problem p = make_problem(type, c);
  Values expected = forward_loop(p, c);
  append(expected, inverse_rms(p, c));
  expect_close(run_forward(cpu(2), type, p, c), expected, tolerance(type),
               "out");
}

// With a residual: the same bits as adding it first.
TEST_P(RmsNormTest, ResidualIsAddedFirst) {
  for (const Case& c : kCases) {
    const Problem p = make_problem(dtype(), c);
    const Shape shape{c.rows, c.columns};
    Backend& backend = cpu(2);
    const auto run = [&](bool fused) {
      const TestTensor x(backend, dtype(), shape, p.x, c.padding);
      const TestTensor residual(backend, dtype(), shape, p.d_out, c.padding);
      const TestTensor weight(backend, wide_dtype(), {c.columns}, p.weight);
      const TestTensor out(backend, dtype(), shape, c.padding);
      const TestTensor inverse(backend, wide_dtype(), {c.rows});
      if (!fused) backend.kernels()(Add{.a = x, .b = residual, .out = x});
      backend.kernels()(
          RmsNorm{.x = x,
                  .residual = fused ? residual.view() : TensorView(),
                  .weight = weight,
                  .out = out,
                  .inverse_rms = inverse});
      EXPECT_TRUE(x.padding_intact() && out.padding_intact());
      Values all = x.values();
      append(all, out.values());
      append(all, inverse.values());
      return all;
    };
    EXPECT_EQ(run(true), run(false));
  }
}

TEST_P(RmsNormTest, AgreesWithLoop) {
  for (const Case& c : kCases) expect_forward(dtype(), c);
}

void expect_gradient(DType type, const Case& c) {
  for (const bool accumulate : {false, true}) {
    const Problem p = make_problem(type, c);
    Problem loop = p;
    gradient_loop(loop, c, accumulate);
    Values expected = loop.d_x;
    append(expected, loop.d_weight);
    expect_close(run_gradient(cpu(2), type, p, c, accumulate, false), expected,
                 tolerance(type), "gradient");
  }
}

TEST_P(RmsNormTest, GradientAgreesWithLoop) {
  for (const Case& c : kCases) expect_gradient(dtype(), c);
}

TEST_P(RmsNormTest, AgreesWithLoopOnRandomShapes) {
  for_random_shapes([](Sizes& draw) {
    const Case c{draw(0, 70), draw(1, 130), draw(0, 9)};
    expect_forward(dtype(), c);
    expect_gradient(dtype(), c);
  });
}

TEST_P(RmsNormTest, GradientMayReplaceItsInput) {
  const Case c{33, 300, 2};
  const Problem p = make_problem(dtype(), c);
  EXPECT_EQ(run_gradient(cpu(1), dtype(), p, c, false, true),
            run_gradient(cpu(1), dtype(), p, c, false, false));
}

TEST_P(RmsNormTest, BitsDoNotDependOnThreads) {
  const Case c{301, 130, 0};
  const Problem p = make_problem(dtype(), c);
  expect_same_for_any_threads([&](Backend& backend) {
    Values all = run_forward(backend, dtype(), p, c);
    append(all, run_gradient(backend, dtype(), p, c, true, false));
    return all;
  });
}

CATENA_FOR_FLOATING_TYPES(RmsNormTest);

TEST(RmsNormGradientTest, IsTheDerivative) {
  const Case c{3, 17, 1};
  Problem p = make_problem(DType::kFloat64, c);
  std::fill(p.d_weight.begin(), p.d_weight.end(), 0.0);
  const auto loss = [&](const Values& x, const Values& weight) {
    Problem at = p;
    at.x = x;
    at.weight = weight;
    Values out = run_forward(cpu(1), DType::kFloat64, at, c);
    out.resize(p.d_out.size());
    return dot(out, p.d_out);
  };
  Values expected =
      numeric_gradient([&](const Values& x) { return loss(x, p.weight); }, p.x);
  append(expected,
         numeric_gradient([&](const Values& w) { return loss(p.x, w); },
                          p.weight));
  expect_close(run_gradient(cpu(1), DType::kFloat64, p, c, false, false),
               expected, kDifferenceTolerance, "gradient");
}

}  // namespace
}  // namespace catena::testing
