#include "tests/support/kernel_testing.h"

namespace catena::testing {
namespace {

using SwiGluTest = KernelTest;

struct Case {
  std::int64_t rows, columns, padding;
};
const Case kCases[] = {{0, 16, 0},  {1, 1, 0},   {3, 17, 5},
                       {33, 64, 0}, {7, 513, 3}, {129, 31, 1}};

struct Problem {
  Values gate_up, d_out, weight;
};

Problem make_problem(DType type, const Case& c) {
  const std::int64_t n = c.rows * c.columns;
  return {.gate_up = rounded(type, random_values(2 * n, 1, 3)),
          .d_out = rounded(type, random_values(n, 2)),
          .weight = rounded(wide(type), random_values(c.rows, 3))};
}

double sigmoid(double z) { return 1 / (1 + std::exp(-z)); }

Values forward_loop(const Problem& p, const Case& c) {
  const auto columns = static_cast<std::size_t>(c.columns);
  Values out(p.d_out.size());
  for (std::size_t e = 0; e < out.size(); ++e) {
    const std::size_t at = e / columns * 2 * columns + e % columns;
    out[e] = p.gate_up[at] * sigmoid(p.gate_up[at]) * p.gate_up[at + columns];
  }
  return out;
}

/// activation, d_weight, d_gate_up.
Values gradient_loop(const Problem& p, const Case& c, bool weighted) {
  const auto columns = static_cast<std::size_t>(c.columns);
  Values activation = forward_loop(p, c), d_weight(p.weight.size());
  Values d_gate_up(p.gate_up.size());
  for (std::size_t e = 0; e < activation.size(); ++e) {
    const std::size_t i = e / columns;
    const std::size_t at = i * 2 * columns + e % columns;
    const double weight = weighted ? p.weight[i] : 1;
    const double gate = p.gate_up[at], up = p.gate_up[at + columns];
    const double s = sigmoid(gate), d = weight * p.d_out[e];
    d_weight[i] += p.d_out[e] * activation[e];
    activation[e] *= weight;
    d_gate_up[at] = d * up * (s + gate * s * (1 - s));
    d_gate_up[at + columns] = d * gate * s;
  }
  Values all = activation;
  if (weighted) append(all, d_weight);
  append(all, d_gate_up);
  return all;
}

Values run_forward(Backend& backend, DType type, const Values& gate_up,
                   const Case& c) {
  const TestTensor in(backend, type, {c.rows, 2 * c.columns}, gate_up,
                      c.padding);
  const TestTensor out(backend, type, {c.rows, c.columns}, c.padding);
  backend.kernels()(SwiGlu{.gate_up = in, .out = out});
  EXPECT_TRUE(out.padding_intact());
  return out.values();
}

Values run_gradient(Backend& backend, DType type, const Problem& p,
                    const Case& c, bool weighted, bool in_place) {
  const Shape half{c.rows, c.columns}, whole{c.rows, 2 * c.columns};
  const TestTensor gate_up(backend, type, whole, p.gate_up, c.padding);
  const TestTensor d_out(backend, type, half, p.d_out, c.padding);
  const TestTensor weight(backend, wide(type), {c.rows}, p.weight);
  const TestTensor d_weight(backend, wide(type), {c.rows});
  const TestTensor other_half(backend, type, half, c.padding);
  const TestTensor other_whole(backend, type, whole, c.padding);
  const TestTensor& activation = in_place ? d_out : other_half;
  const TestTensor& d_gate_up = in_place ? gate_up : other_whole;
  backend.kernels()(
      SwiGluGradient{.gate_up = gate_up,
                     .d_out = d_out,
                     .weight = weighted ? weight.view() : TensorView(),
                     .d_gate_up = d_gate_up,
                     .activation = activation,
                     .d_weight = weighted ? d_weight.view() : TensorView()});
  EXPECT_TRUE(activation.padding_intact() && d_gate_up.padding_intact());
  Values all = activation.values();
  if (weighted) append(all, d_weight.values());
  append(all, d_gate_up.values());
  return all;
}

void expect_forward(DType type, const Case& c) {
  const Problem p = make_problem(type, c);
  expect_close(run_forward(cpu(2), type, p.gate_up, c), forward_loop(p, c),
               tolerance(type), "out");
}

TEST_P(SwiGluTest, AgreesWithLoop) {
  for (const Case& c : kCases) expect_forward(dtype(), c);
}

void expect_gradient(DType type, const Case& c) {
  for (const bool weighted : {false, true}) {
    const Problem p = make_problem(type, c);
    expect_close(run_gradient(cpu(2), type, p, c, weighted, false),
                 gradient_loop(p, c, weighted), tolerance(type), "gradient");
  }
}

TEST_P(SwiGluTest, GradientAgreesWithLoop) {
  for (const Case& c : kCases) expect_gradient(dtype(), c);
}

TEST_P(SwiGluTest, AgreesWithLoopOnRandomShapes) {
  for_random_shapes([](Sizes& draw) {
    const Case c{draw(0, 70), draw(0, 130), draw(0, 9)};
    expect_forward(dtype(), c);
    expect_gradient(dtype(), c);
  });
}

TEST_P(SwiGluTest, GradientMayReplaceItsInputs) {
  const Case c{33, 300, 2};
  const Problem p = make_problem(dtype(), c);
  EXPECT_EQ(run_gradient(cpu(1), dtype(), p, c, true, true),
            run_gradient(cpu(1), dtype(), p, c, true, false));
}

TEST_P(SwiGluTest, BitsDoNotDependOnThreads) {
  const Case c{301, 130, 0};
  const Problem p = make_problem(dtype(), c);
  expect_same_for_any_threads([&](Backend& backend) {
    Values all = run_forward(backend, dtype(), p.gate_up, c);
    append(all, run_gradient(backend, dtype(), p, c, true, false));
    return all;
  });
}

TEST_P(SwiGluTest, LargeGatesNeitherOverflowNorVanish) {
  const Case c{1, 4, 0};
  const Values gate_up = {-200, 200, -90, 0, 1, 1, 1, 1};
  const Values out = run_forward(cpu(1), dtype(), gate_up, c);
  EXPECT_NEAR(out[0], 0, 1e-30);
  EXPECT_EQ(out[1], 200);
  EXPECT_NEAR(out[2], 0, 1e-30);
  EXPECT_EQ(out[3], 0);
}

CATENA_FOR_FLOATING_TYPES(SwiGluTest);

TEST(SwiGluGradientTest, IsTheDerivative) {
  const Case c{3, 7, 1};
  const DType type = DType::kFloat64;
  const Problem p = make_problem(type, c);
  const auto loss = [&](const Values& gate_up, const Values& weight) {
    const Values out = run_forward(cpu(1), type, gate_up, c);
    double sum = 0;
    for (std::size_t e = 0; e < out.size(); ++e) {
      sum +=
          weight[e / static_cast<std::size_t>(c.columns)] * out[e] * p.d_out[e];
    }
    return sum;
  };
  Values expected = numeric_gradient(
      [&](const Values& w) { return loss(p.gate_up, w); }, p.weight);
  append(expected,
         numeric_gradient([&](const Values& x) { return loss(x, p.weight); },
                          p.gate_up));
  Values actual = run_gradient(cpu(1), type, p, c, true, false);
  actual.erase(actual.begin(),
               actual.begin() + static_cast<std::ptrdiff_t>(p.d_out.size()));
  expect_close(actual, expected, kDifferenceTolerance, "gradient");
}

}  // namespace
}  // namespace catena::testing
