#include "runtime/cpu/matmul.h"
#include "runtime/kernels.h"
#include "tests/support/kernel_testing.h"

namespace catena::testing {
namespace {

using GemmTest = KernelTest;

struct Case {
  std::int64_t m, n, k;
};
const Case kCases[] = {{0, 5, 7},     {5, 0, 7},     {4, 3, 0},
                       {1, 1, 1},     {1, 65, 33},   {3, 17, 31},
                       {31, 33, 129}, {65, 129, 17}, {129, 64, 300},
                       {300, 96, 64}, {64, 64, 513}, {13, 3, 0},
                       {37, 70, 768}, {37, 70, 769}, {7, 129, 1025}};

struct Flags {
  bool transpose_a, transpose_b, accumulate;
};

Shape turned(bool transpose, std::int64_t rows, std::int64_t columns) {
  return transpose ? Shape{columns, rows} : Shape{rows, columns};
}

Values gemm_loop(const Case& s, const Flags& f, const Values& a,
                 const Values& b, Values c) {
  for (std::int64_t i = 0; i < s.m; ++i) {
    for (std::int64_t j = 0; j < s.n; ++j) {
      double sum = f.accumulate ? c[static_cast<std::size_t>(i * s.n + j)] : 0;
      for (std::int64_t k = 0; k < s.k; ++k) {
        const std::int64_t left = f.transpose_a ? k * s.m + i : i * s.k + k;
        const std::int64_t right = f.transpose_b ? j * s.k + k : k * s.n + j;
        sum += a[static_cast<std::size_t>(left)] *
               b[static_cast<std::size_t>(right)];
      }
      c[static_cast<std::size_t>(i * s.n + j)] = sum;
    }
  }
  return c;
}

void expect_gemm(const Case& s, const Flags& f, DType type, DType c_type,
                 std::int64_t padding, bool portable = false) {
  const Values a = rounded(type, random_values(s.m * s.k, 1));
  const Values b = rounded(type, random_values(s.k * s.n, 2));
  const Values c = rounded(c_type, random_values(s.m * s.n, 3));
  const std::string what = fmt::format(
      "{} x {} x {}, transposed {} {}, accumulate {}, {} to {}", s.m, s.n, s.k,
      f.transpose_a, f.transpose_b, f.accumulate, name(type), name(c_type));
  TestTensor left(cpu(2), type, turned(f.transpose_a, s.m, s.k), a, padding);
  TestTensor right(cpu(2), type, turned(f.transpose_b, s.k, s.n), b, padding);
  TestTensor out(cpu(2), c_type, {s.m, s.n}, c, padding);
  if (portable) {
    cpu::multiply_portably({.m = s.m,
                            .n = s.n,
                            .k = s.k,
                            .a = left.view().data(),
                            .a_row = left.view().stride(0),
                            .b = right.view().data(),
                            .b_row = right.view().stride(0),
                            .c = out.view().data(),
                            .c_row = out.view().stride(0),
                            .type = type,
                            .c_type = c_type,
                            .transpose_a = f.transpose_a,
                            .transpose_b = f.transpose_b,
                            .accumulate = f.accumulate});
  } else {
    cpu(2).kernels()(Gemm{.a = left,
                          .b = right,
                          .c = out,
                          .transpose_a = f.transpose_a,
                          .transpose_b = f.transpose_b,
                          .accumulate = f.accumulate});
  }
  expect_close(out, gemm_loop(s, f, a, b, c), what);
}

template <class Visit>
void for_all_flags(const Visit& visit) {
  for (int bits = 0; bits < 8; ++bits) {
    visit(Flags{(bits & 1) != 0, (bits & 2) != 0, (bits & 4) != 0});
  }
}

TEST_P(GemmTest, AgreesWithLoop) {
  for (const Case& s : kCases) {
    for_all_flags([&](const Flags& f) {
      expect_gemm(s, f, dtype(), dtype(), 0);
      expect_gemm(s, f, dtype(), wide_dtype(), 5);
    });
  }
}

TEST_P(GemmTest, PortablyAgreesWithLoop) {
  for (const Case& s : kCases) {
    for_all_flags([&](const Flags& f) {
      expect_gemm(s, f, dtype(), dtype(), 3, true);
      expect_gemm(s, f, dtype(), wide_dtype(), 0, true);
    });
  }
}

TEST_P(GemmTest, AgreesWithLoopOnRandomShapes) {
  for_random_shapes([](Sizes& draw) {
    const Case s{draw(0, 80), draw(0, 80), draw(0, 130)};
    const Flags f{draw.flag(), draw.flag(), draw.flag()};
    const std::int64_t padding = draw(0, 9);
    for (const bool portable : {false, true}) {
      expect_gemm(s, f, dtype(), dtype(), padding, portable);
      expect_gemm(s, f, dtype(), wide_dtype(), padding, portable);
    }
  });
}

TEST_P(GemmTest, SumsOverMoreTermsThanOneBlock) {
  expect_gemm({40, 70, 2500}, {true, false, true}, dtype(), wide_dtype(), 0);
  expect_gemm({40, 70, 2500}, {false, true, false}, dtype(), dtype(), 0);
  expect_gemm({40, 70, 2500}, {true, false, true}, dtype(), wide_dtype(), 0,
              true);
}

// Rows 4 KiB apart are copied before they are read.
TEST_P(GemmTest, RowsOfOnePageAgree) {
  const std::int64_t row = 4096 / size_bytes(dtype());
  expect_gemm({37, 64, row}, {false, false, false}, dtype(), dtype(), 0);
  expect_gemm({row, 64, 37}, {true, false, false}, dtype(), dtype(), 0);
}

TEST_P(GemmTest, SameBitsForAnyThreads) {
  for_all_flags([&](const Flags& f) {
    expect_same_for_any_threads([&](Backend& backend) {
      const Case s{300, 260, 1025};
      TestTensor a(backend, dtype(), turned(f.transpose_a, s.m, s.k),
                   random_values(s.m * s.k, 1));
      TestTensor b(backend, dtype(), turned(f.transpose_b, s.k, s.n),
                   random_values(s.k * s.n, 2));
      TestTensor c(backend, dtype(), {s.m, s.n}, random_values(s.m * s.n, 3));
      backend.kernels()(Gemm{.a = a,
                             .b = b,
                             .c = c,
                             .transpose_a = f.transpose_a,
                             .transpose_b = f.transpose_b,
                             .accumulate = f.accumulate});
      return c.values();
    });
  });
}

// Rows [0, m) at once or any block of them alone: the same bits.
void expect_independent_rows(DType type, const Case& s, bool transpose_b,
                             bool portable) {
  Backend& backend = cpu(2);
  TestTensor a(backend, type, {s.m, s.k}, random_values(s.m * s.k, 1));
  TestTensor b(backend, type, turned(transpose_b, s.k, s.n),
               random_values(s.k * s.n, 2));
  TestTensor whole(backend, type, {s.m, s.n}), part(backend, type, {s.m, s.n});
  const auto run = [&](const TestTensor& c, std::int64_t begin,
                       std::int64_t count) {
    const TensorView rows = a.view().slice(0, begin, count);
    const TensorView out = c.view().slice(0, begin, count);
    if (portable) {
      cpu::multiply_portably({.m = count,
                              .n = s.n,
                              .k = s.k,
                              .a = rows.data(),
                              .a_row = rows.stride(0),
                              .b = b.view().data(),
                              .b_row = b.view().stride(0),
                              .c = out.data(),
                              .c_row = out.stride(0),
                              .type = type,
                              .c_type = type,
                              .transpose_b = transpose_b});
    } else {
      backend.kernels()(
          Gemm{.a = rows, .b = b, .c = out, .transpose_b = transpose_b});
    }
  };
  run(whole, 0, s.m);
  for (const std::int64_t block : {1, 2, 7, 16, 48, 100, 256}) {
    for (std::int64_t begin = 0; begin < s.m; begin += block) {
      run(part, begin, std::min(block, s.m - begin));
    }
    EXPECT_EQ(part.values(), whole.values())
        << s.m << " x " << s.n << " x " << s.k << " in blocks of " << block;
  }
}

TEST_P(GemmTest, RowsDoNotDependOnOthers) {
  for (const Case& s : {Case{300, 176, 256}, Case{301, 64, 1100},
                        Case{70, 17, 33}, Case{270, 600, 300}}) {
    for (const bool transpose_b : {false, true}) {
      expect_independent_rows(dtype(), s, transpose_b, false);
    }
  }
}

TEST(GemmPortableTest, RowsDoNotDependOnOthers) {
  for (const Case& s : {Case{300, 176, 256}, Case{301, 64, 1100}}) {
    for (const bool transpose_b : {false, true}) {
      expect_independent_rows(DType::kBFloat16, s, transpose_b, true);
    }
  }
}

// A NaN reaches the results it has a part in, and no others.
TEST_P(GemmTest, NaNStaysInItsRow) {
  Values a = random_values(70 * 33, 1);
  a[50 * 33 + 4] = std::nan("");
  TestTensor left(cpu(2), dtype(), {70, 33}, a);
  TestTensor right(cpu(2), dtype(), {33, 20}, random_values(33 * 20, 2));
  TestTensor out(cpu(2), dtype(), {70, 20});
  cpu(2).kernels()(Gemm{.a = left, .b = right, .c = out});
  const Values c = out.values();
  for (std::size_t i = 0; i < c.size(); ++i) {
    EXPECT_EQ(std::isnan(c[i]), i / 20 == 50) << i;
  }
}

CATENA_FOR_FLOATING_TYPES(GemmTest);

void expect_covered_once(const Case& s) {
  for (const std::int64_t threads : {1, 2, 64}) {
    const cpu::Tiling tiling = cpu::Tiling::choose(threads, 1, s.m, s.n, s.k);
    std::vector<int> seen(static_cast<std::size_t>(s.m * s.n));
    const cpu::Product product{
        .m = s.m, .n = s.n, .k = s.k, .c = seen.data(), .c_row = s.n};
    const std::int64_t pieces =
        tiling.row_tiles(s.m) * tiling.column_tiles(s.n);
    for (std::int64_t index = 0; index < pieces; ++index) {
      const cpu::Product p = tiling.piece(product, index);
      for (std::int64_t i = 0; i < p.m; ++i) {
        for (std::int64_t j = 0; j < p.n; ++j) {
          ++static_cast<int*>(p.c)[i * s.n + j];
        }
      }
    }
    EXPECT_EQ(seen, std::vector<int>(seen.size(), 1)) << s.m << " x " << s.n;
  }
}

TEST(TilingTest, PiecesCoverTheProductOnce) {
  for (const Case& s :
       {Case{1, 4096, 1024}, Case{4096, 352, 256}, Case{352, 256, 4096},
        Case{1000, 1000, 1000}, Case{3, 5, 7}, Case{65, 513, 100000}}) {
    expect_covered_once(s);
  }
}

}  // namespace
}  // namespace catena::testing
