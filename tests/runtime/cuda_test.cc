#include <gmock/gmock.h>

#include "tests/support/kernel_testing.h"

namespace catena::testing {
namespace {

/// GPU 0, or nullptr and the reason.
struct Gpu {
  Gpu() {
    try {
      backend = make_cuda_backend(0);
    } catch (const Error& error) {
      kind = error.kind();
      reason = error.what();
    }
  }
  std::unique_ptr<Backend> backend;
  ErrorKind kind = ErrorKind::kInternal;
  std::string reason;
};

Gpu& gpu() {
  static Gpu instance;
  return instance;
}

TEST(CudaLoaderTest, GivesABackendOrOneLineThatSaysWhyNot) {
  if (gpu().backend != nullptr) {
    EXPECT_EQ(gpu().backend->kind(), DeviceKind::kCuda);
    return;
  }
  EXPECT_TRUE(gpu().kind == ErrorKind::kUnsupported ||
              gpu().kind == ErrorKind::kDevice)
      << gpu().reason;
  EXPECT_FALSE(gpu().reason.empty());
  EXPECT_EQ(gpu().reason.find('\n'), std::string::npos) << gpu().reason;
}

class CudaTest : public KernelTest {
 protected:
  void SetUp() override {
    if (gpu().backend == nullptr) {
      GTEST_SKIP() << "NOT RUN, no CUDA device: " << gpu().reason;
    }
  }
};

struct Case {
  std::int64_t rows, columns, padding;
};
const Case kCases[] = {
    {0, 16, 0},
    {1, 1, 0},
    {3, 17, 5},
    {7, 513, 3},
    {700, 130, 1},
    // Whole vectors of 16 bytes; then the same with rows that are not aligned.
    {1, 8, 0},
    {33, 64, 0},
    {300, 136, 8},
    {65, 1024, 8},
    {9, 4096, 16},
    {65, 1024, 1},
    {9, 4096, 4},
    {33, 64, 2},
    // Around the longest rows that a block holds in each type.
    {3, 2048, 0},
    {3, 2056, 8},
    {5, 4104, 0},
    {2, 8192, 8},
    {2, 8200, 0},
    {1, 16384, 0},
    {1, 16392, 8},
    // Several turns of a block of one, and of more teams of threads.
    {530, 2056, 8},
    {1060, 1288, 0}};

/// x, out, inverse_rms, d_x, d_weight; d_x is d_out if in_place.
Values run(Backend& backend, DType type, const Case& c, bool accumulate,
           bool in_place = false) {
  // A residual goes with accumulation, so that both are seen.
  const Shape shape{c.rows, c.columns};
  const std::int64_t n = c.rows * c.columns;
  const TestTensor x(backend, type, shape, random_values(n, 1), c.padding);
  const TestTensor weight(backend, wide(type), {c.columns},
                          random_values(c.columns, 2));
  const TestTensor out(backend, type, shape, c.padding);
  const TestTensor inverse(backend, wide(type), {c.rows});
  const TestTensor d_out(backend, type, shape, random_values(n, 3));
  const TestTensor other(backend, type, shape, random_values(n, 4), c.padding);
  const TestTensor& d_x = in_place ? d_out : other;
  const TestTensor d_weight(backend, wide(type), {c.columns},
                            random_values(c.columns, 5));
  const TestTensor residual(backend, type, shape, random_values(n, 6));
  backend.kernels()(
      RmsNorm{.x = x,
              .residual = accumulate ? residual.view() : TensorView(),
              .weight = weight,
              .out = out,
              .inverse_rms = inverse});
  backend.kernels()(RmsNormGradient{.d_out = d_out,
                                    .x = x,
                                    .weight = weight,
                                    .inverse_rms = inverse,
                                    .d_x = d_x,
                                    .d_weight = d_weight,
                                    .accumulate = accumulate});
  Values all;
  for (const TestTensor* part : {&x, &out, &inverse, &d_x, &d_weight}) {
    EXPECT_TRUE(part->padding_intact());
    append(all, part->values());
  }
  return all;
}

TEST_P(CudaTest, RmsNormAgreesWithTheCpu) {
  for (const Case& c : kCases) {
    for (const bool accumulate : {false, true}) {
      const Values first = run(*gpu().backend, dtype(), c, accumulate);
      expect_close(first, run(cpu(1), dtype(), c, accumulate),
                   tolerance(dtype()), "rms_norm");
      EXPECT_EQ(run(*gpu().backend, dtype(), c, accumulate), first)
          << "not deterministic";
    }
  }
}

TEST_P(CudaTest, RmsNormGradientMayReplaceItsInput) {
  for (const Case& c : {Case{65, 1024, 8}, Case{65, 1024, 1}}) {
    EXPECT_EQ(run(*gpu().backend, dtype(), c, false, true),
              run(*gpu().backend, dtype(), c, false));
  }
}

TEST_P(CudaTest, NamesKernelsThatAreNotThereYet) {
  Backend& backend = *gpu().backend;
  const TestTensor x(backend, dtype(), {2});
  try {
    backend.kernels()(Add{.a = x, .b = x, .out = x});
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kUnsupported);
    EXPECT_THAT(error.what(), ::testing::HasSubstr("kernel add"));
  }
}

CATENA_FOR_FLOATING_TYPES(CudaTest);

}  // namespace
}  // namespace catena::testing
