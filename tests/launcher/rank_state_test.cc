#include "launcher/rank_state.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>

namespace catena::launcher {
namespace {

using std::chrono::seconds;
using Phase = RankState::Phase;

const Time kNow = Time(seconds(1000));

std::vector<int> numbers(const RankActions& actions) {
  std::vector<int> result;
  for (const SendSignal& action : actions) result.push_back(action.signal);
  return result;
}

TEST(RankStateTest, WhatItSaysMovesItOnAndNeverBack) {
  struct Row {
    const char* line;
    bool news;
    Phase phase;
    std::int64_t step;
  };
  RankState state;
  for (const Row& row :
       {Row{"hello", false, Phase::kSpawned, 0},
        {"step", false, Phase::kSpawned, 0},
        {"joined", true, Phase::kJoined, 0},
        {"joined", false, Phase::kJoined, 0},
        {"step x", false, Phase::kJoined, 0},
        {"step 7 ", false, Phase::kJoined, 0},
        {"step 7", true, Phase::kSteady, 7},
        {"step 6", false, Phase::kSteady, 7},
        {"joined", false, Phase::kSteady, 7},
        {"step 99999999999999999999", false, Phase::kSteady, 7},
        {"done", true, Phase::kSteady, 7}}) {
    EXPECT_EQ(hear(state, row.line), row.news) << row.line;
    EXPECT_EQ(state.phase, row.phase) << row.line;
    EXPECT_EQ(state.ending.step, row.step) << row.line;
  }
  EXPECT_TRUE(state.ending.done);
  EXPECT_FALSE(state.ending.lost);
}

TEST(RankStateTest, AStepSaysThatItHasJoined) {
  RankState state;
  EXPECT_TRUE(hear(state, "step 1"));
  EXPECT_TRUE(state.ending.joined);
}

TEST(RankStateTest, ItIsAskedOnceAndKilledAfterTheGracePeriod) {
  RankState state;
  EXPECT_EQ(numbers(stop(state, false, seconds(5), kNow)),
            (std::vector{SIGTERM, SIGCONT}));
  // A second SIGTERM would end a rank that is saving.
  EXPECT_TRUE(stop(state, false, seconds(5), kNow + seconds(1)).empty());
  EXPECT_EQ(next_deadline(state), kNow + seconds(5));
  EXPECT_TRUE(tick(state, kNow + seconds(4)).empty());
  EXPECT_EQ(numbers(tick(state, kNow + seconds(5))), std::vector{SIGKILL});
  EXPECT_TRUE(tick(state, kNow + seconds(6)).empty());
  EXPECT_FALSE(next_deadline(state).has_value());
}

TEST(RankStateTest, AtOnceMeansAtOnceAlsoAfterAnOrderlyStop) {
  RankState state;
  EXPECT_FALSE(stop(state, false, seconds(5), kNow).empty());
  EXPECT_EQ(numbers(stop(state, true, seconds(5), kNow)), std::vector{SIGKILL});
  EXPECT_TRUE(stop(state, true, seconds(5), kNow).empty());
}

TEST(RankStateTest, ItEndsOnce) {
  RankState state;
  EXPECT_TRUE(reap(state, 3, 0, "words"));
  EXPECT_FALSE(reap(state, 0, 9, "others"));
  EXPECT_EQ(state.ending.code, 3);
  EXPECT_EQ(state.ending.last_words, "words");
  EXPECT_FALSE(state.ending.stopped);
  EXPECT_TRUE(stop(state, true, seconds(0), kNow).empty());
}

}  // namespace
}  // namespace catena::launcher
