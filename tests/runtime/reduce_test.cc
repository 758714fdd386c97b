#include <limits>

#include "tests/support/kernel_testing.h"

namespace catena::testing {
namespace {

using ReduceTest = KernelTest;
constexpr double kInfinity = std::numeric_limits<double>::infinity();
const double kNan = std::nan("");

double run_sum(Backend& backend, DType type, const Values& x, bool squares) {
  const Shape shape{static_cast<std::int64_t>(x.size())};
  const TestTensor in(backend, type, shape, x);
  const TestTensor out(backend, DType::kFloat64, {1});
  if (squares) {
    backend.kernels()(SumSquares{.x = in, .out = out});
  } else {
    backend.kernels()(Sum{.x = in, .out = out});
  }
  return out.values()[0];
}

void expect_sums(DType type, std::int64_t n) {
  const Values x = rounded(type, random_values(n, 1));
  double sum = 0, magnitude = 1e-300;
  for (const double value : x) {
    sum += value;
    magnitude += std::abs(value);
  }
  EXPECT_NEAR(run_sum(cpu(2), type, x, false), sum, 1e-12 * magnitude);
  EXPECT_NEAR(run_sum(cpu(2), type, x, true), dot(x, x),
              1e-12 * (dot(x, x) + 1e-300));
}

TEST_P(ReduceTest, SumsInFloat64) {
  for (const std::int64_t n : {0, 1, 17, 255, 257, 16384, 16385, 50000}) {
    expect_sums(dtype(), n);
  }
}

TEST_P(ReduceTest, SumsAnyContiguousShape) {
  const Values x = rounded(dtype(), random_values(60, 1));
  const TestTensor in(cpu(1), dtype(), {3, 4, 5}, x);
  const TestTensor out(cpu(1), DType::kFloat64, {1});
  cpu(1).kernels()(SumSquares{.x = in, .out = out});
  EXPECT_NEAR(out.values()[0], dot(x, x), 1e-10);
}

std::int64_t count_bad(Backend& backend, const TensorView& x) {
  const TestTensor out(backend, DType::kInt64, {1});
  backend.kernels()(CountNonFinite{.x = x, .out = out});
  return static_cast<std::int64_t>(out.values()[0]);
}

/// The gap between rows is NaN and must not count.
void expect_bad_counted(DType type, const Shape& shape) {
  Values x = random_values(shape.elements(), 1);
  std::int64_t expected = 0;
  for (std::size_t i = 0; i < x.size(); i += 13) {
    x[i] = i % 3 == 0 ? kInfinity : i % 3 == 1 ? -kInfinity : kNan;
    ++expected;
  }
  const TestTensor in(cpu(2), type, shape, x, 9);
  EXPECT_EQ(count_bad(cpu(2), in), expected);
}

TEST_P(ReduceTest, CountsNonFiniteBetweenPaddedRows) {
  for (const Shape& shape : {Shape{40000}, Shape{65, 31}, Shape{3, 5, 7},
                             Shape{1, 1}, Shape{0, 5}}) {
    expect_bad_counted(dtype(), shape);
  }
  const TestTensor large(cpu(2), dtype(), {2}, {3e38, -3e38});
  EXPECT_EQ(count_bad(cpu(2), large), 0);
}

void expect_added(DType type, const Shape& shape) {
  const Values a = rounded(type, random_values(shape.elements(), 1));
  const Values b = rounded(type, random_values(shape.elements(), 2));
  Values sum(a.size());
  for (std::size_t i = 0; i < a.size(); ++i) sum[i] = a[i] + b[i];
  const TestTensor x(cpu(2), type, shape, a, 3);
  const TestTensor y(cpu(2), type, shape, b, 1);
  const TestTensor out(cpu(2), type, shape, 2);
  cpu(2).kernels()(Add{.a = x, .b = y, .out = out});
  expect_close(out, sum, "out");
  cpu(2).kernels()(Add{.a = x, .b = y, .out = x});
  EXPECT_EQ(x.values(), out.values());
}

TEST_P(ReduceTest, AddsAlsoInPlace) {
  for (const Shape& shape :
       {Shape{0}, Shape{1}, Shape{40000}, Shape{33, 17}, Shape{2, 700}}) {
    expect_added(dtype(), shape);
  }
}

void expect_copied(DType type, const Shape& shape) {
  for (const DType to : {DType::kFloat32, DType::kBFloat16, DType::kFloat64}) {
    const Values x = rounded(type, random_values(shape.elements(), 1));
    const TestTensor in(cpu(2), type, shape, x, 3);
    const TestTensor out(cpu(2), to, shape, 2);
    cpu(2).kernels()(Copy{.from = in, .to = out});
    EXPECT_EQ(out.values(), rounded(to, x));
    EXPECT_TRUE(out.padding_intact());
  }
}

TEST_P(ReduceTest, CopyConvertsToEveryFloatingType) {
  for (const Shape& shape :
       {Shape{0, 3}, Shape{1}, Shape{40000}, Shape{33, 17}, Shape{5, 3, 31}}) {
    expect_copied(dtype(), shape);
  }
}

TEST_P(ReduceTest, CopyRepeatsAStrideOfZeroAndSumMiddleUndoesIt) {
  const Values x = rounded(dtype(), random_values(3 * 5, 1));
  const TestTensor in(cpu(2), dtype(), {3, 5}, x, 4);
  const TestTensor wide_out(cpu(2), dtype(), {3, 2, 5}, 1);
  cpu(2).kernels()(Copy{.from = in.view().repeat_middle(2), .to = wide_out});
  EXPECT_TRUE(wide_out.padding_intact());
  const TestTensor back(cpu(2), dtype(), {3, 5}, 2);
  cpu(2).kernels()(SumMiddle{.x = wide_out, .out = back});
  Values twice = x;
  for (double& value : twice) value *= 2;
  EXPECT_EQ(back.values(), twice);
}

void expect_middle_summed(DType type, const Shape& shape) {
  const Values x = rounded(type, random_values(shape.elements(), 1));
  const TestTensor in(cpu(2), type, shape, x, 5);
  const TestTensor out(cpu(2), type, {shape[0], shape[2]}, 3);
  cpu(2).kernels()(SumMiddle{.x = in, .out = out});
  Values expected(static_cast<std::size_t>(shape[0] * shape[2]));
  const auto columns = static_cast<std::size_t>(shape[2]);
  const auto middle = static_cast<std::size_t>(shape[1]);
  for (std::size_t e = 0; e < x.size(); ++e) {
    expected[e / columns / middle * columns + e % columns] += x[e];
  }
  expect_close(out, expected, "out");
}

TEST_P(ReduceTest, SumMiddleAgreesWithLoop) {
  for (const Shape& shape : {Shape{0, 3, 4}, Shape{1, 1, 1}, Shape{7, 3, 300},
                             Shape{65, 8, 17}, Shape{4, 0, 6}}) {
    expect_middle_summed(dtype(), shape);
  }
}

void expect_filled(DType type, const Shape& shape) {
  const TestTensor x(cpu(2), type, shape, 7);
  cpu(2).kernels()(Fill{.x = x, .value = -3});
  EXPECT_EQ(x.values(),
            Values(static_cast<std::size_t>(shape.elements()), -3.0));
  EXPECT_TRUE(x.padding_intact());
}

TEST_P(ReduceTest, AgreesWithLoopOnRandomShapes) {
  for_random_shapes([](Sizes& draw) {
    const std::int64_t rows = draw(0, 35), middle = draw(0, 9);
    const std::int64_t columns = draw(0, 70);
    expect_sums(dtype(), draw(0, 3000));
    for (const Shape& shape : {Shape{columns}, Shape{rows, columns}}) {
      expect_added(dtype(), shape);
    }
    for (const Shape& shape :
         {Shape{columns}, Shape{rows, columns}, Shape{rows, middle, columns}}) {
      expect_bad_counted(dtype(), shape);
      expect_copied(dtype(), shape);
      expect_filled(dtype(), shape);
    }
    expect_middle_summed(dtype(), {rows, middle, columns});
  });
}

TEST_P(ReduceTest, BitsDoNotDependOnThreads) {
  const Values x = rounded(dtype(), random_values(70000, 1));
  expect_same_for_any_threads([&](Backend& backend) {
    Values all{run_sum(backend, dtype(), x, false),
               run_sum(backend, dtype(), x, true)};
    const TestTensor in(backend, dtype(), {700, 10, 10}, x);
    const TestTensor out(backend, dtype(), {700, 10});
    backend.kernels()(SumMiddle{.x = in, .out = out});
    append(all, out.values());
    return all;
  });
}

CATENA_FOR_FLOATING_TYPES(ReduceTest);

TEST(FillTest, FillsEveryTypeAndNothingElse) {
  for (const DType type : {DType::kFloat32, DType::kBFloat16, DType::kFloat64,
                           DType::kInt32, DType::kInt64}) {
    for (const Shape& shape :
         {Shape{0}, Shape{20000}, Shape{33, 17}, Shape{2, 3, 5}}) {
      expect_filled(type, shape);
    }
  }
}

TEST(CopyTest, CopiesIntegers) {
  for (const DType type : {DType::kInt32, DType::kInt64}) {
    const Values x = random_integers(99, 1, -1000, 1000);
    const TestTensor in(cpu(2), type, {33, 3}, x, 2);
    const TestTensor out(cpu(2), type, {33, 3}, 1);
    cpu(2).kernels()(Copy{.from = in, .to = out});
    EXPECT_EQ(out.values(), x);
  }
}

}  // namespace
}  // namespace catena::testing
