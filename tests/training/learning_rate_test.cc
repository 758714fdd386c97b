#include "training/learning_rate.h"

#include <gtest/gtest.h>

namespace catena {
namespace {

LearningRateConfig with(const char* schedule) {
  return {.peak = 2,
          .warmup_steps = 4,
          .schedule = schedule,
          .final_ratio = 0.25,
          .decay_fraction = 0.5};
}

TEST(LearningRateTest, WarmsUpLinearlyFromTheFirstStep) {
  for (const char* schedule : {"constant", "linear", "cosine", "wsd"}) {
    EXPECT_DOUBLE_EQ(learning_rate(with(schedule), 1, 20), 0.5);
    EXPECT_DOUBLE_EQ(learning_rate(with(schedule), 4, 20), 2);
  }
}

TEST(LearningRateTest, EndsAtTheFinalRatio) {
  EXPECT_DOUBLE_EQ(learning_rate(with("constant"), 20, 20), 2);
  for (const char* schedule : {"linear", "cosine", "wsd"}) {
    EXPECT_NEAR(learning_rate(with(schedule), 20, 20), 0.5, 1e-12) << schedule;
  }
}

TEST(LearningRateTest, FollowsTheScheduleBetween) {
  EXPECT_NEAR(learning_rate(with("linear"), 12, 20), 2 - 1.5 / 2, 1e-12);
  EXPECT_NEAR(learning_rate(with("cosine"), 12, 20), 0.5 + 1.5 / 2, 1e-12);
  EXPECT_DOUBLE_EQ(learning_rate(with("wsd"), 10, 20), 2);
  EXPECT_NEAR(learning_rate(with("wsd"), 15, 20), 2 - 1.5 / 2, 1e-12);
}

TEST(LearningRateTest, WithoutWarmUpStartsAtThePeak) {
  LearningRateConfig config = with("constant");
  config.warmup_steps = 0;
  EXPECT_DOUBLE_EQ(learning_rate(config, 1, 20), 2);
}

}  // namespace
}  // namespace catena
