#include "tests/support/kernel_testing.h"

namespace catena::testing {
namespace {

const DType kTypes[] = {DType::kFloat32, DType::kFloat64};

struct Case {
  std::int64_t rows, columns, choices, segments, padding;
};
const Case kCases[] = {{0, 8, 2, 1, 0},    {1, 1, 1, 1, 0},
                       {3, 17, 2, 2, 5},   {65, 64, 4, 3, 0},
                       {129, 33, 1, 5, 3}, {31, 100, 3, 31, 1}};

struct Problem {
  Values x, index, segment, sums, counts;
};

Problem make_problem(DType type, const Case& c) {
  const std::int64_t table = c.segments * c.columns;
  return {.x = rounded(type, random_values(c.rows * c.columns, 1)),
          .index = random_integers(c.rows * c.choices, 2, 0, c.columns),
          .segment = random_integers(c.rows, 3, 0, c.segments),
          .sums = rounded(type, random_values(table, 4)),
          .counts = random_integers(table, 5, 0, 9)};
}

/// sums, counts.
Values run(Backend& backend, DType type, const Problem& p, const Case& c) {
  const Shape table{c.segments, c.columns};
  const TestTensor x(backend, type, {c.rows, c.columns}, p.x, c.padding);
  const TestTensor index(backend, DType::kInt32, {c.rows, c.choices}, p.index,
                         c.padding);
  const TestTensor segment(backend, DType::kInt32, {c.rows}, p.segment);
  const TestTensor sums(backend, type, table, p.sums, c.padding);
  const TestTensor counts(backend, type, table, p.counts, c.padding);
  backend.kernels()(SegmentSums{.x = x,
                                .index = index,
                                .segment = segment,
                                .sums = sums,
                                .counts = counts});
  EXPECT_TRUE(sums.padding_intact() && counts.padding_intact());
  Values all = sums.values();
  append(all, counts.values());
  return all;
}

void expect_sums(DType type, const Case& c) {
  Problem p = make_problem(type, c);
  const Values actual = run(cpu(2), type, p, c);
  const auto columns = static_cast<std::size_t>(c.columns);
  const auto choices = static_cast<std::size_t>(c.choices);
  for (std::size_t i = 0; i < p.segment.size(); ++i) {
    const std::size_t to = static_cast<std::size_t>(p.segment[i]) * columns;
    for (std::size_t j = 0; j < columns; ++j) {
      p.sums[to + j] += p.x[i * columns + j];
    }
    for (std::size_t j = 0; j < choices; ++j) {
      p.counts[to + static_cast<std::size_t>(p.index[i * choices + j])] += 1;
    }
  }
  Values expected = p.sums;
  append(expected, p.counts);
  expect_close(actual, expected, tolerance(type), "sums and counts");
}

TEST(SegmentSumsTest, AgreesWithLoop) {
  for (const DType type : kTypes) {
    for (const Case& c : kCases) expect_sums(type, c);
  }
}

Case random_case(Sizes& draw) {
  return {draw(0, 130), draw(1, 70), draw(0, 9), draw(1, 9), draw(0, 9)};
}

TEST(SegmentSumsTest, AgreesWithLoopOnRandomShapes) {
  for_random_shapes([](Sizes& draw) {
    const Case c = random_case(draw);
    for (const DType type : kTypes) expect_sums(type, c);
  });
}

TEST(SegmentSumsTest, RefusesIndicesAndSegmentsOutOfRange) {
  const Case c{2, 4, 1, 2, 0};
  Problem p = make_problem(DType::kFloat32, c);
  p.index[1] = 4;
  EXPECT_THROW(run(cpu(1), DType::kFloat32, p, c), Error);
  p.index[1] = 0;
  p.segment[0] = -1;
  EXPECT_THROW(run(cpu(1), DType::kFloat32, p, c), Error);
}

TEST(SegmentSumsTest, BitsDoNotDependOnThreads) {
  const Case c{301, 130, 3, 4, 0};
  const Problem p = make_problem(DType::kFloat32, c);
  expect_same_for_any_threads(
      [&](Backend& backend) { return run(backend, DType::kFloat32, p, c); });
}

/// d_probability, loss.
Values balance(DType type, const Case& c, const Values& sums,
               const Values& counts, const Values& length, double loss) {
  Backend& backend = cpu(1);
  const Shape table{c.segments, c.columns};
  const TestTensor s(backend, type, table, sums, c.padding);
  const TestTensor n(backend, type, table, counts, c.padding);
  const TestTensor d(backend, type, table, c.padding);
  const TestTensor lengths(backend, type, {c.segments}, length);
  const TestTensor total(backend, type, {1}, Values{loss});
  backend.kernels()(BalanceLoss{.sums = s,
                                .counts = n,
                                .length = lengths,
                                .d_probability = d,
                                .loss = total,
                                .k = 3,
                                .coefficient = 0.01});
  EXPECT_TRUE(d.padding_intact());
  Values all = d.values();
  append(all, total.values());
  return all;
}

void expect_balance(DType type, const Case& c) {
  const Problem p = make_problem(type, c);
  // Every third segment is empty.
  Values length(static_cast<std::size_t>(c.segments));
  for (std::size_t s = 0; s < length.size(); ++s) {
    length[s] = s % 3 == 1 ? 0 : static_cast<double>(10 + s);
  }
  const auto columns = static_cast<std::size_t>(c.columns);
  Values expected(p.sums.size());
  double loss = 0.5;
  for (std::size_t e = 0; e < expected.size(); ++e) {
    const double n = length[e / columns];
    if (n == 0) continue;
    const double f = p.counts[e] * static_cast<double>(c.columns) / (n * 3);
    expected[e] = 0.01 * f / n;
    loss += 0.01 * f * p.sums[e] / n;
  }
  expected.push_back(loss);
  expect_close(balance(type, c, p.sums, p.counts, length, 0.5), expected,
               tolerance(type), "balance");
}

TEST(BalanceLossTest, AgreesWithLoop) {
  for (const DType type : kTypes) {
    for (const Case& c : kCases) expect_balance(type, c);
  }
}

TEST(BalanceLossTest, AgreesWithLoopOnRandomShapes) {
  for_random_shapes([](Sizes& draw) {
    const Case c = random_case(draw);
    for (const DType type : kTypes) expect_balance(type, c);
  });
}

// The loss is linear in sums; d_probability is its slope by definition, for a
// probability counts once in its segment's sum.
TEST(BalanceLossTest, GradientIsTheDerivative) {
  const Case c{0, 5, 3, 2, 0};
  const Problem p = make_problem(DType::kFloat64, c);
  const Values length{7, 11};
  Values actual = balance(DType::kFloat64, c, p.sums, p.counts, length, 0);
  actual.pop_back();
  const Values expected = numeric_gradient(
      [&](const Values& sums) {
        return balance(DType::kFloat64, c, sums, p.counts, length, 0).back();
      },
      p.sums);
  expect_close(actual, expected, kDifferenceTolerance, "d_probability");
}

void expect_pairs(std::int64_t rows, std::int64_t columns,
                  std::int64_t choices) {
  Backend& backend = cpu(2);
  const Values first = random_integers(rows * choices, 1, 0, columns);
  const Values second = random_integers(rows * choices, 2, 0, columns);
  Values expected = random_integers(columns * columns, 3, 0, 5);
  const Shape shape{rows, choices};
  const TestTensor a(backend, DType::kInt32, shape, first, 1);
  const TestTensor b(backend, DType::kInt32, shape, second, 2);
  const TestTensor counts(backend, DType::kInt64, {columns, columns}, expected,
                          3);
  backend.kernels()(PairCounts{.first = a, .second = b, .counts = counts});
  const auto width = static_cast<std::size_t>(choices);
  for (std::size_t e = 0; e < first.size(); ++e) {
    for (std::size_t l = 0; l < width; ++l) {
      const double to = first[e] * static_cast<double>(columns) +
                        second[e / width * width + l];
      expected[static_cast<std::size_t>(to)] += 1;
    }
  }
  EXPECT_EQ(counts.values(), expected);
  EXPECT_TRUE(counts.padding_intact());
}

TEST(PairCountsTest, CountsEveryPair) {
  for (const std::int64_t rows : {0, 1, 65}) expect_pairs(rows, 7, 3);
}

TEST(PairCountsTest, CountsPairsOfRandomShapes) {
  for_random_shapes(
      [](Sizes& draw) { expect_pairs(draw(0, 130), draw(1, 65), draw(0, 9)); });
}

}  // namespace
}  // namespace catena::testing
