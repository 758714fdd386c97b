#include "runtime/kernels.h"
#include "tests/support/kernel_testing.h"

namespace catena::testing {
namespace {

using GroupedGemmTest = KernelTest;

struct Case {
  std::vector<std::int64_t> rows;  ///< of each group
  std::int64_t n, k;
};
const Case kCases[] = {{{}, 8, 8},
                       {{0, 0}, 8, 8},
                       {{1}, 1, 1},
                       {{3, 0, 17, 1}, 17, 33},
                       {{129, 1, 0, 65, 31}, 64, 31},
                       {{0, 300, 7}, 96, 300},
                       {{2, 900, 1}, 70, 40},
                       {{10, 0, 33}, 40, 900},
                       {{40, 50, 60, 70, 33, 64, 65}, 352, 64}};

Values offsets_of(const Case& s) {
  Values offsets{0};
  for (const std::int64_t rows : s.rows) {
    offsets.push_back(offsets.back() + static_cast<double>(rows));
  }
  return offsets;
}

std::int64_t total_rows(const Case& s) {
  return static_cast<std::int64_t>(offsets_of(s).back());
}
std::int64_t groups_of(const Case& s) {
  return static_cast<std::int64_t>(s.rows.size());
}

/// Calls visit(group, row) for every row.
template <class Visit>
void for_rows(const Case& s, const Visit& visit) {
  std::int64_t row = 0;
  for (std::int64_t g = 0; g < groups_of(s); ++g) {
    for (std::int64_t i = 0; i < s.rows[static_cast<std::size_t>(g)]; ++i) {
      visit(g, row++);
    }
  }
}

Values product_loop(const Case& s, const Values& a, const Values& b,
                    bool transpose_b) {
  Values c(static_cast<std::size_t>(total_rows(s) * s.n));
  for_rows(s, [&](std::int64_t g, std::int64_t i) {
    for (std::int64_t j = 0; j < s.n; ++j) {
      for (std::int64_t k = 0; k < s.k; ++k) {
        const std::int64_t at = transpose_b ? j * s.k + k : k * s.n + j;
        c[static_cast<std::size_t>(i * s.n + j)] +=
            a[static_cast<std::size_t>(i * s.k + k)] *
            b[static_cast<std::size_t>(g * s.n * s.k + at)];
      }
    }
  });
  return c;
}

/// c[g] += a_g^T b_g, c [groups, k, n].
Values gradient_loop(const Case& s, const Values& a, const Values& b,
                     Values c) {
  for_rows(s, [&](std::int64_t g, std::int64_t i) {
    for (std::int64_t k = 0; k < s.k; ++k) {
      for (std::int64_t j = 0; j < s.n; ++j) {
        c[static_cast<std::size_t>((g * s.k + k) * s.n + j)] +=
            a[static_cast<std::size_t>(i * s.k + k)] *
            b[static_cast<std::size_t>(i * s.n + j)];
      }
    }
  });
  return c;
}

Values run_product(Backend& backend, const Case& s, DType type, DType c_type,
                   bool transpose_b, std::int64_t padding) {
  const std::int64_t rows = total_rows(s), groups = groups_of(s);
  TestTensor a(backend, type, {rows, s.k}, random_values(rows * s.k, 1),
               padding);
  TestTensor b(backend, type,
               transpose_b ? Shape{groups, s.n, s.k} : Shape{groups, s.k, s.n},
               random_values(groups * s.n * s.k, 2), padding);
  TestTensor c(backend, c_type, {rows, s.n}, padding);
  TestTensor offsets(backend, DType::kInt32, {groups + 1}, offsets_of(s));
  backend.kernels()(GroupedGemm{
      .a = a, .b = b, .c = c, .offsets = offsets, .transpose_b = transpose_b});
  EXPECT_TRUE(c.padding_intact());
  return c.values();
}

Values run_gradient(Backend& backend, const Case& s, DType type,
                    std::int64_t padding) {
  const std::int64_t rows = total_rows(s), groups = groups_of(s);
  TestTensor a(backend, type, {rows, s.k}, random_values(rows * s.k, 1),
               padding);
  TestTensor b(backend, type, {rows, s.n}, random_values(rows * s.n, 2),
               padding);
  TestTensor c(backend, wide(type), {groups, s.k, s.n},
               random_values(groups * s.k * s.n, 3), padding);
  TestTensor offsets(backend, DType::kInt32, {groups + 1}, offsets_of(s));
  const GroupedGemmGradient::Part whole{.a = a, .b = b, .offsets = offsets};
  backend.kernels()(GroupedGemmGradient{.parts = {&whole, 1}, .c = c});
  EXPECT_TRUE(c.padding_intact());
  return c.values();
}

void expect_product(DType type, const Case& s) {
  const std::int64_t rows = total_rows(s);
  const Values a = rounded(type, random_values(rows * s.k, 1));
  const Values b = rounded(type, random_values(groups_of(s) * s.n * s.k, 2));
  for (const bool transpose_b : {false, true}) {
    for (const DType c_type : {type, wide(type)}) {
      expect_close(run_product(cpu(2), s, type, c_type, transpose_b, 3),
                   product_loop(s, a, b, transpose_b), tolerance(c_type),
                   fmt::format("{} rows, {} groups, {} x {}", rows,
                               groups_of(s), s.n, s.k));
    }
  }
}

void expect_gradient(DType type, const Case& s) {
  const std::int64_t rows = total_rows(s), cells = groups_of(s) * s.n * s.k;
  const Values a = rounded(type, random_values(rows * s.k, 1));
  const Values b = rounded(type, random_values(rows * s.n, 2));
  const Values c = rounded(wide(type), random_values(cells, 3));
  expect_close(
      run_gradient(cpu(2), s, type, 1), gradient_loop(s, a, b, c),
      tolerance(wide(type)),
      fmt::format("{} rows, {} groups, {} x {}", rows, groups_of(s), s.k, s.n));
}

TEST_P(GroupedGemmTest, AgreesWithLoop) {
  for (const Case& s : kCases) expect_product(dtype(), s);
}

TEST_P(GroupedGemmTest, GradientAgreesWithLoop) {
  for (const Case& s : kCases) expect_gradient(dtype(), s);
}

// Parts are summed one after another: as many calls give the same bits.
TEST_P(GroupedGemmTest, PartsAreAsSeparateCalls) {
  const Case s{{3, 0, 70}, 65, 40};
  const std::int64_t rows = total_rows(s), groups = groups_of(s);
  Backend& backend = cpu(2);
  TestTensor a(backend, dtype(), {rows, s.k}, random_values(rows * s.k, 1));
  TestTensor b(backend, dtype(), {rows, s.n}, random_values(rows * s.n, 2));
  TestTensor d(backend, dtype(), {90, s.k}, random_values(90 * s.k, 4));
  TestTensor e(backend, dtype(), {90, s.n}, random_values(90 * s.n, 5));
  TestTensor offsets(backend, DType::kInt32, {groups + 1}, offsets_of(s));
  TestTensor others(backend, DType::kInt32, {groups + 1}, {0, 20, 90, 90});
  const std::vector<GroupedGemmGradient::Part> parts{
      {.a = a, .b = b, .offsets = offsets},
      {.a = d, .b = e, .offsets = others}};
  const auto run = [&](std::size_t at_once) {
    TestTensor c(backend, wide_dtype(), {groups, s.k, s.n},
                 random_values(groups * s.k * s.n, 3));
    for (std::size_t i = 0; i < parts.size(); i += at_once) {
      backend.kernels()(GroupedGemmGradient{
          .parts = std::span(parts).subspan(i, at_once), .c = c});
    }
    return c.values();
  };
  EXPECT_EQ(run(2), run(1));
}

TEST_P(GroupedGemmTest, AgreesWithLoopOnRandomShapes) {
  for_random_shapes([](Sizes& draw) {
    Case s{{}, draw(0, 70), draw(0, 70)};
    s.rows.resize(static_cast<std::size_t>(draw(0, 6)));
    for (std::int64_t& rows : s.rows) rows = draw(0, 35);
    expect_product(dtype(), s);
    expect_gradient(dtype(), s);
  });
}

TEST_P(GroupedGemmTest, EmptyGroupsKeepTheirGradient) {
  const Case s{{0, 5, 0}, 33, 17};
  const Values before = rounded(wide_dtype(), random_values(3 * 33 * 17, 3));
  const Values after = run_gradient(cpu(2), s, dtype(), 0);
  for (std::size_t i = 0; i < after.size(); ++i) {
    if (i / (33 * 17) == 1) continue;
    EXPECT_EQ(after[i], before[i]) << i;
  }
}

TEST_P(GroupedGemmTest, SameBitsForAnyThreads) {
  expect_same_for_any_threads([&](Backend& backend) {
    Values all;
    for (const Case& s : kCases) {
      append(all, run_product(backend, s, dtype(), dtype(), true, 0));
      append(all, run_product(backend, s, dtype(), dtype(), false, 0));
      append(all, run_gradient(backend, s, dtype(), 0));
    }
    return all;
  });
}

// However the rows are grouped, a row times the same matrix has the same bits.
TEST_P(GroupedGemmTest, RowsDoNotDependOnOthers) {
  Backend& backend = cpu(2);
  const std::int64_t n = 96, k = 300;
  const Values matrix = random_values(n * k, 2);
  const auto run = [&](const Case& s) {
    Values b;
    for (std::int64_t g = 0; g < groups_of(s); ++g) append(b, matrix);
    TestTensor a(backend, dtype(), {200, k}, random_values(200 * k, 1));
    TestTensor right(backend, dtype(), {groups_of(s), n, k}, b);
    TestTensor c(backend, dtype(), {200, n});
    TestTensor offsets(backend, DType::kInt32, {groups_of(s) + 1},
                       offsets_of(s));
    backend.kernels()(GroupedGemm{
        .a = a, .b = right, .c = c, .offsets = offsets, .transpose_b = true});
    return c.values();
  };
  const Values once = run({{200}, n, k});
  EXPECT_EQ(run({{1, 0, 99, 100}, n, k}), once);
  EXPECT_EQ(run({{17, 31, 64, 65, 23}, n, k}), once);
}

CATENA_FOR_FLOATING_TYPES(GroupedGemmTest);

}  // namespace
}  // namespace catena::testing
