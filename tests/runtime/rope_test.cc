#include "tests/support/kernel_testing.h"

namespace catena::testing {
namespace {

using RopeTest = KernelTest;
constexpr std::int64_t kPositions = 40;

struct Case {
  std::int64_t rows, heads, size, padding;
};
const Case kCases[] = {{0, 2, 8, 0},   {1, 1, 2, 0},  {3, 4, 16, 5},
                       {65, 2, 64, 0}, {33, 1, 6, 1}, {2, 3, 600, 2}};

struct Problem {
  Values x, position, cosine, sine;
};

/// Not on the unit circle: the kernel must not assume it.
Problem make_problem(DType type, const Case& c) {
  const std::int64_t half = c.size / 2;
  return {.x = rounded(type, random_values(c.rows * c.heads * c.size, 1)),
          .position = random_integers(c.rows, 2, 0, kPositions),
          .cosine = rounded(wide(type), random_values(kPositions * half, 3)),
          .sine = rounded(wide(type), random_values(kPositions * half, 4))};
}

Values loop(const Problem& p, const Case& c, bool interleaved, bool inverse) {
  Values x = p.x;
  const auto size = static_cast<std::size_t>(c.size), half = size / 2;
  const auto heads = static_cast<std::size_t>(c.heads);
  for (std::size_t row = 0; row < p.position.size() * heads; ++row) {
    const auto position = static_cast<std::size_t>(p.position[row / heads]);
    for (std::size_t i = 0; i < half; ++i) {
      const double cosine = p.cosine[position * half + i];
      const double sine = p.sine[position * half + i] * (inverse ? -1 : 1);
      double& a = x[row * size + (interleaved ? 2 * i : i)];
      double& b = x[row * size + (interleaved ? 2 * i + 1 : i + half)];
      const double old = a;
      a = a * cosine - b * sine;
      b = old * sine + b * cosine;
    }
  }
  return x;
}

Values run(Backend& backend, DType type, const Problem& p, const Case& c,
           bool interleaved, bool inverse) {
  const TestTensor x(backend, type, {c.rows, c.heads, c.size}, p.x, c.padding);
  const TestTensor position(backend, DType::kInt32, {c.rows}, p.position);
  const Shape table{kPositions, c.size / 2};
  const TestTensor cosine(backend, wide(type), table, p.cosine);
  const TestTensor sine(backend, wide(type), table, p.sine);
  backend.kernels()(Rope{.x = x,
                         .position = position,
                         .cosine = cosine,
                         .sine = sine,
                         .interleaved = interleaved,
                         .inverse = inverse});
  EXPECT_TRUE(x.padding_intact());
  return x.values();
}

void expect_turned(DType type, const Case& c) {
  const Problem p = make_problem(type, c);
  for (const bool interleaved : {false, true}) {
    for (const bool inverse : {false, true}) {
      expect_close(run(cpu(2), type, p, c, interleaved, inverse),
                   loop(p, c, interleaved, inverse), tolerance(type), "x");
    }
  }
}

TEST_P(RopeTest, AgreesWithLoop) {
  for (const Case& c : kCases) expect_turned(dtype(), c);
}

TEST_P(RopeTest, AgreesWithLoopOnRandomShapes) {
  for_random_shapes([](Sizes& draw) {
    const Case c{draw(0, 35), draw(1, 9), 2 * draw(0, 40), draw(0, 9)};
    expect_turned(dtype(), c);
  });
}

TEST_P(RopeTest, InverseUndoesRotation) {
  const Case c{5, 3, 16, 0};
  Problem p = make_problem(dtype(), c);
  for (std::size_t i = 0; i < p.cosine.size(); ++i) {
    p.cosine[i] = std::cos(static_cast<double>(i));
    p.sine[i] = std::sin(static_cast<double>(i));
  }
  const Values x = p.x;
  p.x = run(cpu(1), dtype(), p, c, false, false);
  expect_close(run(cpu(1), dtype(), p, c, false, true), x, tolerance(dtype()),
               "x");
}

TEST_P(RopeTest, TurnsASliceOfEveryHead) {
  Backend& backend = cpu(1);
  const TestTensor x(backend, dtype(), {2, 2, 4},
                     {1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8});
  const TestTensor position(backend, DType::kInt32, {2}, Values{0, 1});
  const TestTensor cosine(backend, wide_dtype(), {2, 1}, Values{0, 1});
  const TestTensor sine(backend, wide_dtype(), {2, 1}, Values{1, 0});
  backend.kernels()(Rope{.x = x.view().slice(2, 2, 2),
                         .position = position,
                         .cosine = cosine,
                         .sine = sine});
  EXPECT_EQ(x.values(),
            (Values{1, 2, -4, 3, 5, 6, -8, 7, 1, 2, 3, 4, 5, 6, 7, 8}));
}

TEST_P(RopeTest, RefusesPositionsOutsideTheTable) {
  const Case c{1, 1, 2, 0};
  Problem p = make_problem(dtype(), c);
  for (const double position : {-1.0, static_cast<double>(kPositions)}) {
    p.position = {position};
    EXPECT_THROW(run(cpu(1), dtype(), p, c, false, false), Error);
  }
}

TEST_P(RopeTest, BitsDoNotDependOnThreads) {
  const Case c{129, 4, 64, 0};
  const Problem p = make_problem(dtype(), c);
  expect_same_for_any_threads([&](Backend& backend) {
    return run(backend, dtype(), p, c, true, false);
  });
}

CATENA_FOR_FLOATING_TYPES(RopeTest);

// The rotation is linear: its adjoint is the one with the sine negated.
TEST(RopeGradientTest, InverseIsTheAdjoint) {
  const Case c{3, 2, 6, 0};
  const DType type = DType::kFloat64;
  const Problem p = make_problem(type, c);
  for (const bool interleaved : {false, true}) {
    Problem d = p;
    d.x = random_values(static_cast<std::int64_t>(p.x.size()), 9);
    const Values expected = numeric_gradient(
        [&](const Values& x) {
          Problem at = p;
          at.x = x;
          return dot(run(cpu(1), type, at, c, interleaved, false), d.x);
        },
        p.x);
    expect_close(run(cpu(1), type, d, c, interleaved, true), expected,
                 kDifferenceTolerance, "d_x");
  }
}

}  // namespace
}  // namespace catena::testing
