#include "tests/support/kernel_testing.h"

namespace catena::testing {
namespace {

const DType kTypes[] = {DType::kFloat32, DType::kFloat64};

struct State {
  Values x, gradient, m, v;
};

State make_state(DType type, std::int64_t n) {
  State s{.x = rounded(type, random_values(n, 1)),
          .gradient = rounded(type, random_values(n, 2)),
          .m = rounded(type, random_values(n, 3, 0.1)),
          .v = rounded(type, random_values(n, 4, 0.1))};
  for (double& v : s.v) v = std::abs(v);
  return s;
}

AdamW settings(std::int64_t step) {
  AdamW k;
  k.rate = 3e-3;
  k.beta1 = 0.9;
  k.beta2 = 0.95;
  k.epsilon = 1e-8;
  k.decay = 0.1;
  k.gradient_scale = 0.37;
  k.step = step;
  return k;
}

void loop(State& s, const AdamW& k) {
  const auto t = static_cast<double>(k.step);
  for (std::size_t i = 0; i < s.x.size(); ++i) {
    const double g = s.gradient[i] * k.gradient_scale;
    s.m[i] = k.beta1 * s.m[i] + (1 - k.beta1) * g;
    s.v[i] = k.beta2 * s.v[i] + (1 - k.beta2) * g * g;
    const double m = s.m[i] / (1 - std::pow(k.beta1, t));
    const double v = s.v[i] / (1 - std::pow(k.beta2, t));
    s.x[i] = s.x[i] * (1 - k.rate * k.decay) -
             k.rate * m / (std::sqrt(v) + k.epsilon);
    s.gradient[i] = 0;
  }
}

/// x, m, v, copy, gradient.
Values run(Backend& backend, DType type, const State& s, AdamW k) {
  const Shape shape{static_cast<std::int64_t>(s.x.size())};
  const TestTensor x(backend, type, shape, s.x);
  const TestTensor gradient(backend, type, shape, s.gradient);
  const TestTensor m(backend, type, shape, s.m);
  const TestTensor v(backend, type, shape, s.v);
  const TestTensor copy(backend, DType::kBFloat16, shape);
  k.x = x;
  k.gradient = gradient;
  k.m = m;
  k.v = v;
  k.copy = copy;
  backend.kernels()(k);
  Values all;
  for (const TestTensor* part : {&x, &m, &v, &copy, &gradient}) {
    append(all, part->values());
  }
  return all;
}

Values part(const Values& all, std::size_t index, std::size_t n) {
  const auto begin = all.begin() + static_cast<std::ptrdiff_t>(index * n);
  return {begin, begin + static_cast<std::ptrdiff_t>(n)};
}

void expect_step(DType type, std::int64_t size, std::int64_t step) {
  State s = make_state(type, size);
  const AdamW k = settings(step);
  const auto n = static_cast<std::size_t>(size);
  const Values all = run(cpu(2), type, s, k);
  loop(s, k);
  expect_close(part(all, 0, n), s.x, tolerance(type), "x");
  expect_close(part(all, 1, n), s.m, tolerance(type), "m");
  expect_close(part(all, 2, n), s.v, tolerance(type), "v");
  EXPECT_EQ(
      part(all, 3, n),
      rounded(DType::kBFloat16, rounded(DType::kFloat32, part(all, 0, n))));
  EXPECT_EQ(part(all, 4, n), Values(n, 0.0)) << "gradient";
}

TEST(AdamWTest, AgreesWithLoop) {
  for (const DType type : kTypes) {
    for (const std::int64_t size : {0, 1, 17, 33, 5000, 40001}) {
      for (const std::int64_t step : {1, 7, 1000}) {
        expect_step(type, size, step);
      }
    }
  }
}

TEST(AdamWTest, AgreesWithLoopOnRandomShapes) {
  for_random_shapes([](Sizes& draw) {
    const std::int64_t size = draw(0, 3000), step = draw(1, 2000);
    for (const DType type : kTypes) expect_step(type, size, step);
  });
}

TEST(AdamWTest, NeedsNoCopy) {
  Backend& backend = cpu(1);
  const TestTensor x(backend, DType::kFloat32, {1}, Values{2});
  const TestTensor g(backend, DType::kFloat32, {1}, Values{0});
  const TestTensor m(backend, DType::kFloat32, {1}, Values{0});
  const TestTensor v(backend, DType::kFloat32, {1}, Values{0});
  AdamW k = settings(1);
  k.x = x;
  k.gradient = g;
  k.m = m;
  k.v = v;
  backend.kernels()(k);
  // A gradient of exactly zero still decays.
  EXPECT_NEAR(x.values()[0], 2 * (1 - 3e-4), 1e-6);
}

TEST(AdamWTest, BitsDoNotDependOnThreads) {
  for (const DType type : kTypes) {
    const State s = make_state(type, 70001);
    expect_same_for_any_threads(
        [&](Backend& backend) { return run(backend, type, s, settings(3)); });
  }
}

}  // namespace
}  // namespace catena::testing
