#include "runtime/base/random.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "runtime/base/error.h"

namespace catena {
namespace {

using ::testing::ElementsAre;

// The known answers that come with the Random123 library.
TEST(RandomTest, PhiloxKnownAnswers) {
  EXPECT_THAT(Random(0, 0).words(0),
              ElementsAre(0x6627e8d5U, 0xe169c58dU, 0xbc57ac4cU, 0x9b00dbd8U));
  const auto ones = ~std::uint64_t{0};
  EXPECT_THAT(Random(ones, ones).words(ones),
              ElementsAre(0x408f276dU, 0x41c83b0eU, 0xa20bc7c6U, 0x6d5451fdU));
  EXPECT_THAT(Random(0x299f31d0a4093822U, 0x0370734413198a2eU)
                  .words(0x85a308d3243f6a88U),
              ElementsAre(0xd16cfe09U, 0x94fdccebU, 0x5001e420U, 0x24126ea1U));
}

TEST(RandomTest, UniformStaysBelowOneAndIsCentred) {
  const Random random(1, 2);
  constexpr int kCount = 100'000;
  double sum = 0;
  for (int i = 0; i < kCount; ++i) {
    const double value = random.uniform(static_cast<std::uint64_t>(i));
    ASSERT_GE(value, 0.0);
    ASSERT_LT(value, 1.0);
    sum += value;
  }
  // Five standard deviations of the mean of a uniform number.
  EXPECT_NEAR(sum / kCount, 0.5, 5 / std::sqrt(12.0 * kCount));
}

TEST(RandomTest, NormalHasTheMomentsOfANormal) {
  const Random random(3, 4);
  constexpr int kCount = 200'000;
  double first = 0, second = 0, fourth = 0;
  for (int i = 0; i < kCount; ++i) {
    const double value = random.normal(static_cast<std::uint64_t>(i));
    ASSERT_TRUE(std::isfinite(value));
    first += value;
    second += value * value;
    fourth += value * value * value * value;
  }
  // Five standard deviations each: 1, 2 and 96 are the variances of x, x^2
  // and x^4.
  EXPECT_NEAR(first / kCount, 0.0, 5 * std::sqrt(1.0 / kCount));
  EXPECT_NEAR(second / kCount, 1.0, 5 * std::sqrt(2.0 / kCount));
  EXPECT_NEAR(fourth / kCount, 3.0, 5 * std::sqrt(96.0 / kCount));
}

TEST(RandomTest, SeedsAndStreamsDiffer) {
  EXPECT_NE(Random(1, 0).words(0), Random(0, 1).words(0));
  EXPECT_NE(Random(0, 0).words(1), Random(0, 0).words(0));
  EXPECT_EQ(Random(5, 6).words(7), Random(5, 6).words(7));
}

TEST(PermutationTest, IsABijection) {
  for (const std::uint64_t size : {0U, 1U, 2U, 3U, 5U, 16U, 17U, 1000U}) {
    const Permutation permutation(size, 7, 8);
    EXPECT_EQ(permutation.size(), size);
    std::vector<int> seen(size, 0);
    for (std::uint64_t i = 0; i < size; ++i) {
      const std::uint64_t value = permutation.at(i);
      ASSERT_LT(value, size);
      ++seen[value];
    }
    EXPECT_THAT(seen, ::testing::Each(1)) << "size " << size;
    EXPECT_THROW((void)permutation.at(size), Error);
  }
}

TEST(PermutationTest, MovesElementsAndDependsOnTheSeed) {
  const Permutation first(1000, 1, 0), second(1000, 2, 0);
  int fixed = 0, same = 0;
  for (std::uint64_t i = 0; i < 1000; ++i) {
    fixed += first.at(i) == i ? 1 : 0;
    same += first.at(i) == second.at(i) ? 1 : 0;
  }
  // A random permutation has one fixed point on average.
  EXPECT_LT(fixed, 10);
  EXPECT_LT(same, 10);
}

TEST(PermutationTest, LargeSizesNeedNoMemory) {
  const std::uint64_t size = 1'000'000'000'000;
  const Permutation permutation(size, 1, 0);
  for (std::uint64_t i = 0; i < 1000; ++i) {
    ASSERT_LT(permutation.at(i), size);
  }
  EXPECT_THROW(Permutation(std::uint64_t{1} << 62, 0, 0), Error);
}

}  // namespace
}  // namespace catena
