#include "runtime/kernels.h"

#include <gmock/gmock.h>

#include "runtime/backend.h"

namespace catena {
namespace {

using ::testing::HasSubstr;

constexpr DType kF32 = DType::kFloat32;
constexpr DType kBf16 = DType::kBFloat16;
constexpr DType kI32 = DType::kInt32;

/// Shapes without memory, as the meta backend has them.
TensorView tensor(DType dtype, const Shape& shape) {
  return {nullptr, dtype, shape};
}

template <class Kernel>
void expect_refused(const Kernel& kernel, const std::string& what) {
  try {
    kernel.check();
    ADD_FAILURE() << Kernel::kName << " accepted bad " << what;
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kInvalidArgument);
    EXPECT_THAT(error.what(), HasSubstr("[" + std::string(Kernel::kName)));
    EXPECT_THAT(error.what(), HasSubstr(what));
  }
}

Gemm gemm() {
  return {.a = tensor(kBf16, {3, 4}),
          .b = tensor(kBf16, {4, 5}),
          .c = tensor(kF32, {3, 5})};
}

TEST(KernelCheckTest, GemmWantsMatchingShapesAndTypes) {
  gemm().check();
  Gemm k = gemm();
  k.transpose_b = true;
  expect_refused(k, "b is bfloat16 [4, 5], expected bfloat16 [5, 4]");
  k = gemm();
  k.a = tensor(kBf16, {7, 3, 4}).at(6);
  k.check();
  k.transpose_a = true;
  expect_refused(k, "expected bfloat16 [3, 5]");
  k = gemm();
  k.c = tensor(DType::kFloat64, {3, 5});
  expect_refused(k, "c is float64");
  k = gemm();
  k.a = tensor(kI32, {3, 4});
  expect_refused(k, "a is int32");
  k = gemm();
  k.b = {};
  expect_refused(k, "b is float32 []");
  k = gemm();
  k.c = tensor(kF32, {1, 5}).repeat_middle(3).at(0);
  expect_refused(k, "rows 0 apart");
}

TEST(KernelCheckTest, GroupedGemmWantsOneMatrixPerGroup) {
  GroupedGemm k{.a = tensor(kF32, {7, 4}),
                .b = tensor(kF32, {2, 4, 5}),
                .c = tensor(kF32, {7, 5}),
                .offsets = tensor(kI32, {3})};
  k.check();
  k.offsets = tensor(kI32, {4});
  expect_refused(k, "expected float32 [3, 4, 5]");
  k.offsets = tensor(DType::kInt64, {3});
  expect_refused(k, "offsets");
}

TEST(KernelCheckTest, TopKWantsEnoughColumnsInTheBestGroups) {
  TopK k{.rule = {.k = 3},
         .logits = tensor(kF32, {2, 8}),
         .bias = {},
         .forced = {},
         .scores = tensor(kF32, {2, 8}),
         .probability = tensor(kF32, {2, 8}),
         .index = tensor(kI32, {2, 3}),
         .weights = tensor(kF32, {2, 3}),
         .log_sum_exp = tensor(kF32, {2}),
         .entropy = tensor(kF32, {2})};
  k.check();
  k.rule = {.k = 3, .groups = 4, .top_groups = 1};
  expect_refused(k, "3 choices from 1 groups of 2");
  k.rule = {.k = 3, .groups = 3, .top_groups = 3};
  expect_refused(k, "8 columns in 3 equal groups");
  k.rule = {.k = 9};
  expect_refused(k, "9 choices");
  k.rule = {.k = 3, .groups = 4, .top_groups = 5};
  expect_refused(k, "best 5 of 4");
  k.rule = {.k = 3,
            .groups = 8,
            .top_groups = 8,
            .group_score = GroupScore::kTopTwoSum};
  expect_refused(k, "two columns or more");
  k.rule = {.score = Score::kSigmoid, .k = 3};
  expect_refused(k, "apart for sigmoid");
}

TEST(KernelCheckTest, NoWrittenElementMayRepeat) {
  Copy copy{.from = tensor(kF32, {2, 3, 4}),
            .to = tensor(kF32, {2, 4}).repeat_middle(3)};
  expect_refused(copy, "repeats dimension 1");
  std::swap(copy.from, copy.to);
  copy.check();
  // Strides of an empty tensor are 0, and nothing is written.
  Copy{.from = tensor(kF32, {2, 3, 0}), .to = tensor(kF32, {2, 3, 0})}.check();
}

TEST(KernelCheckTest, OtherKernelsNameWhatIsWrong) {
  expect_refused(Rope{.x = tensor(kF32, {2, 1, 3}),
                      .position = tensor(kI32, {2}),
                      .cosine = tensor(kF32, {9, 1}),
                      .sine = tensor(kF32, {9, 1})},
                 "even number of channels");
  expect_refused(Attention{.q = tensor(kF32, {4, 3, 8}),
                           .k = tensor(kF32, {4, 2, 8}),
                           .v = tensor(kF32, {4, 2, 6}),
                           .first = tensor(kI32, {4}),
                           .last = tensor(kI32, {4}),
                           .out = tensor(kF32, {4, 3, 6}),
                           .log_sum_exp = tensor(kF32, {3, 4})},
                 "multiple of key heads");
  expect_refused(
      SwiGlu{.gate_up = tensor(kF32, {2, 5}), .out = tensor(kF32, {2, 3})},
      "expected float32 [2, 6]");
  expect_refused(AdamW{.x = tensor(kF32, {3}),
                       .gradient = tensor(kF32, {3}),
                       .m = tensor(kF32, {3}),
                       .v = tensor(kF32, {3}),
                       .copy = {},
                       .step = 0},
                 "step 0");
  expect_refused(Copy{.from = tensor(kI32, {3}), .to = tensor(kF32, {3})},
                 "int32 cannot become float32");
  expect_refused(SumSquares{.x = tensor(kF32, {3, 4}).slice(1, 0, 2),
                            .out = tensor(DType::kFloat64, {1})},
                 "contiguous");
  expect_refused(CrossEntropy{.logits = tensor(kBf16, {2, 3}),
                              .target = tensor(kI32, {2}),
                              .loss = tensor(kF32, {2}),
                              .gradient = {}},
                 "logits is bfloat16");
}

TEST(KernelCostTest, CountsProductsAndBytes) {
  Gemm k = gemm();
  EXPECT_EQ(k.cost().flops, 2 * 3 * 4 * 5);
  EXPECT_EQ(k.cost().read_bytes, 2 * (3 * 4 + 4 * 5));
  EXPECT_EQ(k.cost().write_bytes, 4 * 3 * 5);
  k.accumulate = true;
  EXPECT_EQ(k.cost().read_bytes, 2 * (3 * 4 + 4 * 5) + 4 * 3 * 5);
  k = {.a = tensor(kF32, {4, 3}),
       .b = tensor(kF32, {5, 4}),
       .c = tensor(kF32, {3, 5}),
       .transpose_a = true,
       .transpose_b = true};
  k.check();
  EXPECT_EQ(k.cost().flops, 2 * 3 * 4 * 5);
}

TEST(KernelCostTest, AttentionIsCountedFromItsPairs) {
  const TensorView q = tensor(kF32, {4, 6, 8}), k = tensor(kF32, {4, 2, 8});
  const TensorView v = tensor(kF32, {4, 2, 5}), out = tensor(kF32, {4, 6, 5});
  const Attention forward{.q = q,
                          .k = k,
                          .v = v,
                          .first = tensor(kI32, {4}),
                          .last = tensor(kI32, {4}),
                          .out = out,
                          .log_sum_exp = tensor(kF32, {6, 4}),
                          .key_pairs = 10};
  forward.check();
  EXPECT_EQ(forward.cost().flops, 2 * 10 * 6 * (8 + 5));
  const AttentionGradient backward{.q = q,
                                   .k = k,
                                   .v = v,
                                   .first = tensor(kI32, {4}),
                                   .out = out,
                                   .log_sum_exp = tensor(kF32, {6, 4}),
                                   .d_out = out,
                                   .d_q = q,
                                   .d_k = k,
                                   .d_v = v,
                                   .key_pairs = 10};
  backward.check();
  EXPECT_EQ(backward.cost().flops, 2 * 10 * 6 * (3 * 8 + 2 * 5));
}

TEST(KernelCostTest, GatheredRowsCountAsRead) {
  const GatherRows k{.source = tensor(kF32, {1000, 8}),
                     .index = tensor(kI32, {3}),
                     .out = tensor(kF32, {3, 8})};
  EXPECT_EQ(k.cost().read_bytes, 4 * (3 + 3 * 8));
  EXPECT_EQ(k.cost().flops, 0);
}

TEST(KernelCountTest, EveryBackendCountsCallsAndCosts) {
  const auto backend = make_meta_backend();
  Kernels& kernels = backend->kernels();
  kernels(gemm());
  kernels(Add{.a = tensor(kF32, {5}),
              .b = tensor(kF32, {5}),
              .out = tensor(kF32, {5})});
  kernels(gemm());
  ASSERT_EQ(kernels.end() - kernels.begin(), 2);
  const KernelCount* count = kernels.begin();
  EXPECT_EQ(count[0].name, "gemm");
  EXPECT_EQ(count[0].calls, 2);
  EXPECT_EQ(count[0].cost.flops, 2 * 120);
  EXPECT_EQ(count[1].name, "add");
  EXPECT_EQ(count[1].calls, 1);
  EXPECT_EQ(kernels.total().flops, 2 * 120 + 5);
  EXPECT_EQ(kernels.total().write_bytes, 2 * 60 + 20);
  kernels.reset_counts();
  EXPECT_EQ(kernels.begin(), kernels.end());
  EXPECT_EQ(kernels.total().flops, 0);
}

TEST(KernelCountTest, RefusedCallsAreNotCounted) {
  const auto backend = make_meta_backend();
  Gemm bad = gemm();
  bad.transpose_b = true;
  EXPECT_THROW(backend->kernels()(bad), Error);
  EXPECT_EQ(backend->kernels().total().flops, 0);
}

}  // namespace
}  // namespace catena
