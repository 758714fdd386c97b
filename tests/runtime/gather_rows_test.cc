#include "tests/support/kernel_testing.h"

namespace catena::testing {
namespace {

using GatherRowsTest = KernelTest;

struct Case {
  std::int64_t rows, columns, source_rows, choices, padding;
};
const Case kCases[] = {{0, 16, 5, 2, 0},   {1, 1, 1, 1, 0},
                       {3, 17, 9, 3, 5},   {65, 64, 33, 4, 0},
                       {7, 513, 31, 2, 3}, {129, 31, 3, 1, 1},
                       {5, 0, 4, 2, 0},    {4, 8, 6, 0, 1}};

Values random_source(DType type, const Case& c) {
  return rounded(type, random_values(c.source_rows * c.columns, 1));
}

Values gather(Backend& backend, DType type, const Case& c, const Values& source,
              const Values& index) {
  const TestTensor from(backend, type, {c.source_rows, c.columns}, source,
                        c.padding);
  const TestTensor at(backend, DType::kInt32, {c.rows}, index);
  const TestTensor out(backend, type, {c.rows, c.columns}, c.padding);
  backend.kernels()(GatherRows{.source = from, .index = at, .out = out});
  EXPECT_TRUE(out.padding_intact());
  return out.values();
}

void expect_gathered(DType type, const Case& c) {
  const Values source = random_source(type, c);
  const Values index = random_integers(c.rows, 2, -1, c.source_rows);
  Values expected;
  for (const double i : index) {
    for (std::int64_t j = 0; j < c.columns; ++j) {
      const auto e = static_cast<std::size_t>(std::max(0.0, i) *
                                              static_cast<double>(c.columns)) +
                     static_cast<std::size_t>(j);
      expected.push_back(i < 0 ? 0 : source[e]);
    }
  }
  EXPECT_EQ(gather(cpu(2), type, c, source, index), expected);
}

TEST_P(GatherRowsTest, CopiesRowsAndZeros) {
  for (const Case& c : kCases) expect_gathered(dtype(), c);
}

TEST_P(GatherRowsTest, RefusesRowsBeyondTheEnd) {
  const Case c{1, 2, 3, 1, 0};
  const Values source = random_source(dtype(), c);
  EXPECT_THROW(gather(cpu(1), dtype(), c, source, {3}), Error);
}

/// rows [rows, columns] are added into out [source_rows, columns].
Values scatter(Backend& backend, DType type, const Case& c, const Values& rows,
               const Values& index, const Values& start) {
  const TestTensor from(backend, type, {c.rows, c.columns}, rows, c.padding);
  const TestTensor at(backend, DType::kInt32, {c.rows}, index);
  const TestTensor out(backend, wide(type), {c.source_rows, c.columns}, start,
                       c.padding);
  backend.kernels()(ScatterAddRows{.rows = from, .index = at, .out = out});
  EXPECT_TRUE(out.padding_intact());
  return out.values();
}

void expect_scattered(DType type, const Case& c) {
  const Values rows = rounded(type, random_values(c.rows * c.columns, 3));
  const Values index = random_integers(c.rows, 4, -1, c.source_rows);
  const Values start =
      rounded(wide(type), random_values(c.source_rows * c.columns, 5));
  Values expected = start;
  const auto columns = static_cast<std::size_t>(c.columns);
  for (std::size_t i = 0; i < index.size(); ++i) {
    if (index[i] < 0) continue;
    for (std::size_t j = 0; j < columns; ++j) {
      expected[static_cast<std::size_t>(index[i]) * columns + j] +=
          rows[i * columns + j];
    }
  }
  expect_close(scatter(cpu(2), type, c, rows, index, start), expected,
               tolerance(wide(type)), "out");
}

TEST_P(GatherRowsTest, ScatterAddsRepeatedRows) {
  for (const Case& c : kCases) expect_scattered(dtype(), c);
}

Values combine(Backend& backend, DType type, const Case& c,
               const Values& source, const Values& index, const Values& weight,
               const Values& start, bool weighted, bool accumulate,
               const Values* residual = nullptr) {
  const TestTensor from(backend, type, {c.source_rows, c.columns}, source,
                        c.padding);
  const Shape choices{c.rows, c.choices};
  const TestTensor at(backend, DType::kInt32, choices, index, c.padding);
  const TestTensor factor(backend, wide(type), choices, weight, c.padding);
  const TestTensor out(backend, type, {c.rows, c.columns}, start, c.padding);
  const TestTensor added(backend, type, {c.rows, c.columns},
                         residual != nullptr ? *residual : start, c.padding);
  backend.kernels()(
      CombineRows{.source = from,
                  .index = at,
                  .weight = weighted ? factor.view() : TensorView(),
                  .residual = residual != nullptr ? added.view() : TensorView(),
                  .out = out,
                  .accumulate = accumulate});
  EXPECT_TRUE(out.padding_intact());
  return out.values();
}

void expect_combined(DType type, const Case& c) {
  const Values source = random_source(type, c);
  const Values index =
      random_integers(c.rows * c.choices, 2, -1, c.source_rows);
  const Values weight =
      rounded(wide(type), random_values(c.rows * c.choices, 6));
  const Values start = rounded(type, random_values(c.rows * c.columns, 7));
  const Values residual = rounded(type, random_values(c.rows * c.columns, 8));
  const auto columns = static_cast<std::size_t>(c.columns);
  const auto choices = static_cast<std::size_t>(c.choices);
  for (const bool weighted : {false, true}) {
    for (const bool accumulate : {false, true}) {
      Values expected(start.size());
      for (std::size_t e = 0; e < expected.size(); ++e) {
        if (accumulate) expected[e] = start[e];
        for (std::size_t j = 0; j < choices; ++j) {
          const std::size_t at = e / columns * choices + j;
          if (index[at] < 0) continue;
          const auto row = static_cast<std::size_t>(index[at]);
          expected[e] +=
              (weighted ? weight[at] : 1) * source[row * columns + e % columns];
        }
      }
      expect_close(combine(cpu(2), type, c, source, index, weight, start,
                           weighted, accumulate),
                   expected, tolerance(type), "out");
      for (std::size_t e = 0; e < expected.size(); ++e) {
        expected[e] += residual[e];
      }
      expect_close(combine(cpu(2), type, c, source, index, weight, start,
                           weighted, accumulate, &residual),
                   expected, tolerance(type), "out with residual");
    }
  }
}

TEST_P(GatherRowsTest, CombineIsAWeightedSum) {
  for (const Case& c : kCases) expect_combined(dtype(), c);
}

TEST_P(GatherRowsTest, AgreesWithLoopOnRandomShapes) {
  for_random_shapes([](Sizes& draw) {
    const Case c{draw(0, 70), draw(0, 130), draw(1, 40), draw(0, 9),
                 draw(0, 9)};
    expect_gathered(dtype(), c);
    expect_scattered(dtype(), c);
    expect_combined(dtype(), c);
  });
}

TEST_P(GatherRowsTest, BitsDoNotDependOnThreads) {
  const Case c{301, 130, 17, 3, 0};
  const Values source = random_source(dtype(), c);
  const Values rows = rounded(dtype(), random_values(c.rows * c.columns, 3));
  const Values index = random_integers(c.rows, 2, -1, c.source_rows);
  const Values choice = random_integers(c.rows * c.choices, 2, 0, 17);
  const Values weight = random_values(c.rows * c.choices, 6);
  expect_same_for_any_threads([&](Backend& backend) {
    Values all = gather(backend, dtype(), c, source, index);
    append(all, scatter(backend, dtype(), c, rows, index, source));
    append(all, combine(backend, dtype(), c, source, choice, weight, rows, true,
                        true));
    return all;
  });
}

// Between bfloat16 and float32, either way: as if converted before or after.
TEST(ConvertingRowsTest, RoundsOnceAtTheEnd) {
  for (const Case& c : kCases) {
    for (const DType from : {DType::kFloat32, DType::kBFloat16}) {
      const DType to =
          from == DType::kFloat32 ? DType::kBFloat16 : DType::kFloat32;
      const Values source = random_source(from, c);
      const Values index = random_integers(c.rows, 2, -1, c.source_rows);
      const Values start = rounded(to, random_values(c.rows * c.columns, 7));
      const Shape shape{c.source_rows, c.columns};
      const TestTensor in(cpu(2), from, shape, source, c.padding);
      const TestTensor at(cpu(2), DType::kInt32, {c.rows}, index);
      TestTensor out(cpu(2), to, {c.rows, c.columns}, start, c.padding);
      const auto run = [&](const auto& kernel) {
        cpu(2).kernels()(kernel);
        EXPECT_TRUE(out.padding_intact());
        return out.values();
      };
      const Values gathered = gather(cpu(2), from, c, source, index);
      EXPECT_EQ(run(GatherRows{.source = in, .index = at, .out = out}),
                rounded(to, gathered));
      // One choice of weight 1 onto what is there, and a residual.
      out.set(start);
      Values expected = gathered;
      for (std::size_t i = 0; i < expected.size(); ++i) {
        expected[i] = gathered[i] + start[i] + start[i];
      }
      const TestTensor added(cpu(2), to, {c.rows, c.columns}, start, c.padding);
      expect_close(run(CombineRows{.source = in,
                                   .index = at.view().reshape({c.rows, 1}),
                                   .weight = {},
                                   .residual = added,
                                   .out = out,
                                   .accumulate = true}),
                   expected, tolerance(to), "combined");
    }
  }
}

TEST(ConvertingRowsTest, RefusesOtherTypes) {
  const TestTensor in(cpu(1), DType::kFloat64, {2, 3});
  const TestTensor at(cpu(1), DType::kInt32, {1});
  const TestTensor out(cpu(1), DType::kFloat32, {1, 3});
  EXPECT_THROW(
      cpu(1).kernels()(GatherRows{.source = in, .index = at, .out = out}),
      Error);
}

CATENA_FOR_FLOATING_TYPES(GatherRowsTest);

}  // namespace
}  // namespace catena::testing
