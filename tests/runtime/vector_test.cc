#include "runtime/cpu/vector.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

namespace catena::cpu {
namespace {

float exp_of(float x) { return exp(broadcast(x))[0]; }

TEST(VectorTest, ExpIsAccurateOnItsRange) {
  double worst = 0;
  for (double x = -86.8; x < 88.7; x += 0.00137) {
    const auto rounded = static_cast<float>(x);
    const double expected = std::exp(static_cast<double>(rounded));
    worst = std::max(worst, std::abs(exp_of(rounded) / expected - 1));
  }
  EXPECT_LT(worst, 2e-7);
}

TEST(VectorTest, ExpAtTheEnds) {
  const float infinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(exp_of(0), 1);
  EXPECT_EQ(exp_of(-87), 0);
  EXPECT_EQ(exp_of(-infinity), 0);
  EXPECT_EQ(exp_of(std::numeric_limits<float>::lowest()), 0);
  EXPECT_EQ(exp_of(89), infinity);
  EXPECT_EQ(exp_of(infinity), infinity);
  EXPECT_TRUE(std::isnan(exp_of(std::nanf(""))));
}

template <class T>
void expect_transposed() {
  Vector<T> rows[kLanes<T>];
  for (int i = 0; i < kLanes<T>; ++i) {
    for (int j = 0; j < kLanes<T>; ++j) {
      rows[i][j] = static_cast<T>(100 * i + j);
    }
  }
  transpose<T>(rows);
  for (int i = 0; i < kLanes<T>; ++i) {
    for (int j = 0; j < kLanes<T>; ++j) {
      EXPECT_EQ(rows[i][j], static_cast<T>(100 * j + i)) << i << ", " << j;
    }
  }
}

TEST(VectorTest, Transposes) {
  expect_transposed<float>();
  expect_transposed<double>();
}

TEST(VectorTest, LoadsAndStoresAFewLanes) {
  for (int count = 0; count <= kLanes<float>; ++count) {
    std::vector<BFloat16> from, to(kLanes<float>, BFloat16(-1));
    for (int i = 0; i < count; ++i) {
      from.emplace_back(static_cast<float>(i + 1));
    }
    const Vector<float> value = load(from.data(), count);
    store(to.data(), value, count);
    for (int i = 0; i < kLanes<float>; ++i) {
      EXPECT_EQ(value[i], i < count ? i + 1 : 0);
      EXPECT_EQ(static_cast<float>(to[static_cast<std::size_t>(i)]),
                i < count ? i + 1 : -1);
    }
  }
}

TEST(VectorTest, RoundsBFloat16LikeTheScalar) {
  std::vector<BFloat16> out(kLanes<float>);
  for (std::uint32_t bits = 0; bits < 0xffff0000u; bits += 0x7fff) {
    const auto x = std::bit_cast<float>(bits);
    store(out.data(), broadcast(x));
    ASSERT_EQ(out[0].bits, BFloat16(x).bits) << bits;
  }
}

TEST(VectorTest, SumsEveryLane) {
  Vector<double> value{};
  double expected = 0;
  for (int i = 0; i < kLanes<double>; ++i) {
    value[i] = i + 1;
    expected += i + 1;
  }
  EXPECT_EQ(sum<double>(value), expected);
}

TEST(ScratchTest, GrowsAndStaysAligned) {
  Scratch scratch;
  float* const small = scratch.get<float>(10);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(small) % 64, 0u);
  EXPECT_EQ(scratch.get<float>(5), small);
  float* const large = scratch.get<float>(100000);
  large[99999] = 1;
  EXPECT_EQ(scratch.get<float>(100000), large);
}

}  // namespace
}  // namespace catena::cpu
