#include "runtime/backend.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <limits>
#include <utility>
#include <vector>

namespace catena {
namespace {

using ::testing::HasSubstr;

TEST(BackendTest, CpuDescribesItself) {
  const auto backend = make_cpu_backend(2);
  EXPECT_EQ(backend->kind(), DeviceKind::kCpu);
  EXPECT_THAT(backend->description(), HasSubstr("CPU, 2 threads, "));
  EXPECT_THAT(make_cpu_backend(1)->description(), HasSubstr("CPU, 1 thread, "));
}

TEST(BackendTest, MemoryIsAlignedAndWritable) {
  const auto backend = make_cpu_backend(1);
  for (const std::size_t bytes :
       {std::size_t{1}, std::size_t{100}, (std::size_t{4} << 20) + 3,
        std::size_t{9} << 20}) {
    void* const data = backend->allocate(bytes);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(data) % 64, 0u);
    if (bytes >= std::size_t{4} << 20) {
      EXPECT_EQ(reinterpret_cast<std::uintptr_t>(data) % (2u << 20), 0u);
    }
    const std::vector<char> host(bytes, 7);
    backend->copy_from_host(data, host.data(), bytes);
    std::vector<char> back(bytes);
    backend->copy_to_host(back.data(), data, bytes);
    EXPECT_EQ(back, host);
    backend->clear(data, bytes);
    backend->copy_to_host(back.data(), data, bytes);
    EXPECT_EQ(back, std::vector<char>(bytes, 0));
    backend->release(data, bytes);
  }
}

TEST(BackendTest, SaysHowMuchDidNotFit) {
  const auto backend = make_cpu_backend(1);
  for (const std::size_t bytes :
       {std::size_t{1} << 60, std::numeric_limits<std::size_t>::max()}) {
    try {
      void* const data = backend->allocate(bytes);
      backend->release(data, bytes);
      FAIL() << bytes << " bytes were given";
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kDoesNotFit);
      EXPECT_THAT(error.what(), HasSubstr(std::to_string(bytes)));
    }
  }
}

TEST(BackendTest, TensorsAreClearedAndMove) {
  const auto backend = make_cpu_backend(1);
  Tensor a(*backend, DType::kFloat32, {3, 5});
  for (int i = 0; i < 15; ++i) EXPECT_EQ(a.view().as<float>()[i], 0);
  a.view().as<float>()[7] = 2;
  Tensor b(std::move(a));
  EXPECT_FALSE(a.defined());  // NOLINT(bugprone-use-after-move)
  EXPECT_EQ(b.view().as<float>()[7], 2);
  Tensor c;
  EXPECT_FALSE(c.defined());
  c = std::move(b);
  EXPECT_EQ(c.view().as<float>()[7], 2);
  EXPECT_TRUE(Tensor(*backend, DType::kFloat32, {0, 4}).view().empty());
}

TEST(BackendTest, CallsAreCheckedAndCounted) {
  const auto backend = make_cpu_backend(1);
  Tensor a(*backend, DType::kFloat32, {4, 6}),
      b(*backend, DType::kFloat32, {6, 5});
  Tensor c(*backend, DType::kFloat32, {4, 5});
  Kernels& kernels = backend->kernels();
  kernels(Gemm{.a = a.view(), .b = b.view(), .c = c.view()});
  EXPECT_EQ(kernels.total().flops, 2 * 4 * 5 * 6);
  ASSERT_EQ(kernels.end() - kernels.begin(), 1);
  EXPECT_EQ(kernels.begin()->name, "gemm");
  EXPECT_EQ(kernels.begin()->calls, 1);
  EXPECT_THROW(kernels(Gemm{.a = a.view(), .b = a.view(), .c = c.view()}),
               Error);
  kernels.reset_counts();
  EXPECT_EQ(kernels.total().flops, 0);
}

}  // namespace
}  // namespace catena
