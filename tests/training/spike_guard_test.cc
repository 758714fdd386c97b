#include "training/spike_guard.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace catena {
namespace {

using testing::HasSubstr;

SpikeGuard warmed(SpikeConfig config = {.action = "skip"}) {
  SpikeGuard guard(config);
  for (int i = 0; i < 32; ++i) {
    guard.accept(3 + 0.1 * (i % 5), 0.5 + 0.02 * (i % 3));
  }
  return guard;
}

TEST(SpikeGuardTest, TellsALeapFromOrdinaryChange) {
  SpikeGuard guard = warmed();
  EXPECT_EQ(guard.judge(3.4, 0.54), "");
  EXPECT_EQ(guard.judge(3.9, 0.6), "");
  EXPECT_THAT(guard.judge(9, 0.5), HasSubstr("loss 9 is "));
  EXPECT_THAT(guard.judge(3.2, 20), HasSubstr("gradient norm 20 is "));
}

TEST(SpikeGuardTest, AFallIsNoSpike) {
  EXPECT_EQ(warmed().judge(0.01, 1e-6), "");
}

TEST(SpikeGuardTest, WhatIsNotFiniteAlwaysIs) {
  SpikeGuard fresh({.action = "skip"});
  EXPECT_EQ(fresh.judge(1e30, 1e30), "");  // nothing to compare with yet
  EXPECT_THAT(fresh.judge(std::nan(""), 1), HasSubstr("loss nan"));
  EXPECT_THAT(fresh.judge(1, std::numeric_limits<double>::infinity()),
              HasSubstr("gradient norm inf"));
}

// Spikes in the window do not hide the next one: the median does not move.
TEST(SpikeGuardTest, IsNotMovedByAFewOutliers) {
  SpikeGuard guard = warmed();
  for (int i = 0; i < 10; ++i) guard.accept(50, 9);
  EXPECT_NE(guard.judge(50, 0.5), "");
}

// Steady losses have no spread; a hundredth of them is the least that counts.
TEST(SpikeGuardTest, SteadyValuesLeaveRoom) {
  SpikeGuard guard({.action = "skip", .deviations = 8});
  for (int i = 0; i < 40; ++i) guard.accept(2, 1);
  EXPECT_EQ(guard.judge(2.15, 1), "");
  EXPECT_NE(guard.judge(2.17, 1), "");
}

// Half ones, half twos: center 1.5, each 0.5 from it.
TEST(SpikeGuardTest, TheMedianOfAnEvenWindowIsBetweenBothMiddles) {
  SpikeGuard guard({.action = "skip", .deviations = 8, .window = 16});
  for (int i = 0; i < 16; ++i) guard.accept(1 + i % 2, 1);
  EXPECT_EQ(guard.judge(7.4, 1), "");
  EXPECT_THAT(guard.judge(7.5, 1), HasSubstr("8.1 deviations above 1.5"));
}

TEST(SpikeGuardTest, ComparesWithTheWindowAlone) {
  SpikeGuard guard({.action = "skip", .window = 16});
  for (int i = 0; i < 100; ++i) guard.accept(100, 100);
  for (int i = 0; i < 16; ++i) guard.accept(1 + 0.01 * i, 1);
  EXPECT_NE(guard.judge(50, 1), "");
  EXPECT_EQ(guard.state().losses.size(), 16U);
  EXPECT_EQ(guard.state().norms.size(), 16U);
}

}  // namespace
}  // namespace catena
