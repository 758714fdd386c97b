#include "layers/rope_table.h"

#include <gtest/gtest.h>

#include <cmath>

#include "layers/parameter.h"

namespace catena::testing {
namespace {

/// The published models' embedding.
RopeConfig published() {
  return {.theta = 10000,
          .scaling = "yarn",
          .factor = 40,
          .original_positions = 4096,
          .beta_fast = 32,
          .beta_slow = 1,
          .mscale = 0.707,
          .mscale_all_dim = 0.707};
}

// Of 64 channels, pairs up to 10 keep their wave length, pairs from 23 on are
// stretched by the whole factor.
TEST(RopeTableTest, YarnBlendsFromPairTenToPairTwentyThree) {
  RopeConfig plain;
  const auto expected = rope_frequencies(plain, 64);
  const auto found = rope_frequencies(published(), 64);
  ASSERT_EQ(found.size(), 32u);
  for (std::size_t i = 0; i < found.size(); ++i) {
    const double stretch = expected[i] / found[i];
    if (i <= 10) {
      EXPECT_NEAR(stretch, 1, 1e-12) << i;
    } else if (i >= 23) {
      EXPECT_NEAR(stretch, 40, 1e-9) << i;
    } else {
      EXPECT_GT(stretch, 1) << i;
      EXPECT_LT(stretch, 40) << i;
    }
  }
}

TEST(RopeTableTest, YarnScalesScoresAndNotTheEmbeddingWhereBothAreEqual) {
  EXPECT_NEAR(rope_score_factor(published()), 1.58963, 1e-5);
  EXPECT_EQ(rope_magnitude(published()), 1);
  RopeConfig plain;
  EXPECT_EQ(rope_score_factor(plain), 1);
  EXPECT_EQ(rope_magnitude(plain), 1);
  RopeConfig embedding_only = published();
  embedding_only.mscale_all_dim = 0;
  EXPECT_EQ(rope_score_factor(embedding_only), 1);
  EXPECT_NEAR(rope_magnitude(embedding_only), 0.1 * 0.707 * std::log(40.0) + 1,
              1e-12);
}

TEST(RopeTableTest, LinearStretchesEveryWave) {
  RopeConfig linear{.theta = 500, .scaling = "linear", .factor = 4};
  const auto found = rope_frequencies(linear, 6);
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_NEAR(found[i], std::pow(500, -static_cast<double>(i) / 3) / 4,
                1e-15);
  }
}

TEST(RopeTableTest, HoldsCosineAndSineOfEveryPosition) {
  const auto backend = make_cpu_backend(1);
  const RopeTable table(*backend, DType::kFloat64, RopeConfig{}, 4, 5);
  const auto cosine = read_values(*backend, table.cosine.view());
  const auto sine = read_values(*backend, table.sine.view());
  ASSERT_EQ(cosine.size(), 10u);
  for (std::size_t position = 0; position < 5; ++position) {
    for (std::size_t i = 0; i < 2; ++i) {
      const double angle = static_cast<double>(position) * (i == 0 ? 1 : 0.01);
      EXPECT_NEAR(cosine[position * 2 + i], std::cos(angle), 1e-15);
      EXPECT_NEAR(sine[position * 2 + i], std::sin(angle), 1e-15);
    }
  }
}

}  // namespace
}  // namespace catena::testing
