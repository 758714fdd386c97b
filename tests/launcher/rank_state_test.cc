#include "launcher/rank_state.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <csignal>

namespace catena::launcher {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using Phase = RankState::Phase;

const Time kNow = Time(seconds(1000));

constexpr seconds kGrace(5);

std::vector<int> numbers(const RankActions& actions) {
  std::vector<int> result;
  for (const RankAction& action : actions) {
    const auto* send = std::get_if<SendSignal>(&action);
    if (send != nullptr) result.push_back(send->signal);
  }
  return result;
}

/// What is told of it; "" if nothing is.
std::string told(const RankActions& actions) {
  for (const RankAction& action : actions) {
    const auto* notice = std::get_if<Notice>(&action);
    if (notice != nullptr) return notice->text;
  }
  return "";
}

TEST(RankStateTest, WhatItSaysMovesItOnAndNeverBack) {
  struct Row {
    const char* line;
    Phase phase;
    std::int64_t step;
  };
  RankState state;
  SectionTimes times;
  for (const Row& row : {Row{"hello", Phase::kSpawned, 0},
                         {"step", Phase::kSpawned, 0},
                         {"joined", Phase::kJoined, 0},
                         {"joined", Phase::kJoined, 0},
                         {"step x", Phase::kJoined, 0},
                         {"step 7 ", Phase::kJoined, 0},
                         {"step 7", Phase::kSteady, 7},
                         {"step 6", Phase::kSteady, 7},
                         {"joined", Phase::kSteady, 7},
                         {"step 99999999999999999999", Phase::kSteady, 7},
                         {"done", Phase::kSteady, 7}}) {
    EXPECT_TRUE(hear(state, row.line, times, kNow).empty()) << row.line;
    EXPECT_EQ(state.phase, row.phase) << row.line;
    EXPECT_EQ(state.ending.step, row.step) << row.line;
  }
  EXPECT_TRUE(state.ending.done);
  EXPECT_FALSE(state.ending.lost);
}

TEST(RankStateTest, AStepSaysThatItHasJoined) {
  RankState state;
  SectionTimes times;
  EXPECT_TRUE(hear(state, "step 1", times, kNow).empty());
  EXPECT_TRUE(state.ending.joined);
}

TEST(RankStateTest, ItIsAskedOnceAndKilledAfterTheGracePeriod) {
  RankState state;
  EXPECT_EQ(numbers(stop(state, false, seconds(5), kNow)),
            (std::vector{SIGTERM, SIGCONT}));
  // A second SIGTERM would end a rank that is saving.
  EXPECT_TRUE(stop(state, false, seconds(5), kNow + seconds(1)).empty());
  EXPECT_EQ(next_deadline(state), kNow + seconds(5));
  EXPECT_TRUE(tick(state, {}, kGrace, kNow + seconds(4)).empty());
  EXPECT_EQ(numbers(tick(state, {}, kGrace, kNow + seconds(5))),
            std::vector{SIGKILL});
  EXPECT_TRUE(tick(state, {}, kGrace, kNow + seconds(6)).empty());
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

/// One rank, its agent's times, and a clock.
class RankHangTest : public ::testing::Test {
 protected:
  RankActions say(std::string_view line) {
    return hear(state_, line, times_, now_);
  }
  RankActions later(Duration duration) {
    now_ += duration;
    return tick(state_, times_, seconds(30), now_);
  }
  void take_steps(int first, int last) {
    for (int step = first; step <= last; ++step) {
      now_ += seconds(8);
      EXPECT_EQ(told(say("step " + std::to_string(step))), "");
    }
  }

  RankState state_;
  SectionTimes times_;
  Time now_ = kNow;
};

TEST_F(RankHangTest, TheSecondTimeoutIsTheVerdict) {
  static_cast<void>(say("section step"));
  take_steps(1, 2);
  // Five times the eight seconds of a step.
  EXPECT_TRUE(later(milliseconds(39999)).empty());
  EXPECT_THAT(
      told(later(milliseconds(1))),
      AllOf(HasSubstr("no further for 40 s: section step, after step 2"),
            HasSubstr("ended if that lasts")));
  EXPECT_TRUE(later(milliseconds(39999)).empty());
  const RankActions ended = later(milliseconds(1));
  EXPECT_THAT(told(ended), HasSubstr("no further for 80 s"));
  EXPECT_EQ(numbers(ended), (std::vector{SIGTERM, SIGCONT}));
  EXPECT_TRUE(state_.ending.hung);
  EXPECT_EQ(state_.ending.section, "step");
  EXPECT_EQ(state_.ending.silent_seconds, 80);
  // It goes on to hear of its end, and says more: what counts is where it hung.
  static_cast<void>(say("waits 2 all_reduce (control)"));
  static_cast<void>(say("step 3"));
  static_cast<void>(say("section end"));
  EXPECT_EQ(state_.ending.section, "step");
  EXPECT_EQ(state_.ending.step, 2);
  EXPECT_EQ(state_.ending.waits_for, -1);
  // Within five seconds, though a rank that is to save may have thirty.
  EXPECT_EQ(numbers(later(seconds(5))), std::vector{SIGKILL});
  EXPECT_FALSE(next_deadline(state_).has_value());
}

TEST_F(RankHangTest, OneThatGoesOnIsNoneThatHangs) {
  static_cast<void>(say("section step"));
  take_steps(1, 2);
  EXPECT_NE(told(later(seconds(40))), "");
  now_ += seconds(20);
  EXPECT_EQ(told(say("step 3")), "goes on after 60 s");
  // What has been seen is learned.
  EXPECT_TRUE(later(seconds(299)).empty());
  EXPECT_NE(told(later(seconds(1))), "");
}

// spikes.action = "rewind"
TEST_F(RankHangTest, OneThatGoesBackToACheckpointComesFurther) {
  times_.fixed = seconds(10);
  static_cast<void>(say("section step"));
  take_steps(1, 20);
  static_cast<void>(say("section load"));
  EXPECT_EQ(told(say("step 21")), "");
  static_cast<void>(say("section step"));
  for (int step = 11; step <= 25; ++step) {
    EXPECT_TRUE(later(seconds(4)).empty()) << step;
    EXPECT_TRUE(say("step " + std::to_string(step)).empty()) << step;
    EXPECT_EQ(state_.ending.step, std::max(21, step)) << "the furthest";
  }
  // Who says the same again has come no further.
  EXPECT_TRUE(later(seconds(4)).empty());
  EXPECT_TRUE(say("step 25").empty());
  EXPECT_NE(told(later(seconds(6))), "");
}

TEST_F(RankHangTest, EverySectionHasATimeOfItsOwn) {
  using std::chrono::minutes;
  for (const char* name :
       {"start", "load", "step", "validation", "checkpoint", "end"}) {
    static_cast<void>(say(std::string("section ") + name));
    EXPECT_TRUE(later(minutes(29)).empty()) << name << " was not seen before";
    EXPECT_NE(told(later(minutes(1))), "") << name;
  }
  state_ = {};
  times_ = {};
  static_cast<void>(say("section step"));
  now_ += minutes(10);
  static_cast<void>(say("step 1"));
  EXPECT_EQ(times_.longest.at(static_cast<std::size_t>(Section::kFirstStep)),
            minutes(10));
  EXPECT_EQ(times_.longest.at(static_cast<std::size_t>(Section::kStep)),
            Duration());
  now_ += seconds(1);
  static_cast<void>(say("section checkpoint"));
  now_ += minutes(1);
  static_cast<void>(say("section step"));
  EXPECT_EQ(timeout_of(times_, Section::kCheckpoint), minutes(5));
  EXPECT_EQ(timeout_of(times_, Section::kStep), seconds(30)) << "the floor";
}

TEST_F(RankHangTest, OneThatWaitsForAnotherIsNotTheOne) {
  times_.fixed = seconds(10);
  static_cast<void>(say("section step"));
  take_steps(1, 1);
  for (int second = 0; second < 18; ++second) {
    EXPECT_EQ(told(say("waits 2 all_reduce (control)")), "");
    EXPECT_TRUE(later(seconds(1)).empty()) << second;
  }
  // It is only said, after twice the time.
  EXPECT_EQ(told(say("waits 2 all_reduce (control)")), "");
  std::string warning;
  for (int second = 0; second < 100; ++second) {
    static_cast<void>(say("waits 2 all_reduce (control)"));
    warning += told(later(seconds(1)));
  }
  EXPECT_THAT(warning, HasSubstr("waits for rank 2 in all_reduce (control)"));
  EXPECT_THAT(warning, Not(HasSubstr("ended")));
  EXPECT_FALSE(state_.ending.hung);
  EXPECT_EQ(state_.ending.waits_for, 2);
  // Stopped while it waits, it says no more of it.
  static_cast<void>(later(seconds(4)));
  static_cast<void>(later(seconds(10)));
  EXPECT_TRUE(state_.ending.hung);
}

TEST_F(RankHangTest, AnAgentThatWasHeldUpItselfJudgesNobody) {
  times_.fixed = seconds(10);
  static_cast<void>(say("section step"));
  take_steps(1, 1);
  EXPECT_EQ(told(later(seconds(300))), "");
  EXPECT_NE(told(later(seconds(10))), "");
  EXPECT_EQ(told(later(seconds(300))), "");
  EXPECT_THAT(told(later(seconds(10))), HasSubstr("hangs"));
}

TEST_F(RankHangTest, WhoSaysNoSectionsOrIsToEndIsNotWatched) {
  take_steps(1, 2);
  EXPECT_FALSE(next_deadline(state_).has_value());
  static_cast<void>(say("section step"));
  EXPECT_TRUE(next_deadline(state_).has_value());
  static_cast<void>(stop(state_, false, seconds(5), now_));
  EXPECT_EQ(next_deadline(state_), now_ + seconds(5));
  static_cast<void>(say("section checkpoint"));
  EXPECT_EQ(next_deadline(state_), now_ + seconds(5));
  reap(state_, 75, 0, "");
  EXPECT_FALSE(next_deadline(state_).has_value());
}

TEST_F(RankHangTest, WhereItLostAnotherIsHeard) {
  static_cast<void>(say("waits 2 all_reduce (control)"));
  EXPECT_EQ(state_.ending.waits_in, "all_reduce (control)");
  static_cast<void>(say("lostbarrier (control)"));
  EXPECT_FALSE(state_.ending.lost);
  static_cast<void>(say("lost barrier (control)"));
  EXPECT_TRUE(state_.ending.lost);
  EXPECT_EQ(state_.ending.waits_for, 2);
  EXPECT_EQ(state_.ending.waits_in, "barrier (control)");
  static_cast<void>(say("lost"));
  EXPECT_EQ(state_.ending.waits_in, "");
}

TEST_F(RankHangTest, WordsThatAreNoneChangeNothing) {
  for (const char* line :
       {"section", "section ", "section first step", "section stepp", "waits",
        "waits ", "waits x", "waits 2", "waits -2 all", "waits 2x all"}) {
    EXPECT_TRUE(say(line).empty()) << line;
    EXPECT_FALSE(state_.watch.section.has_value()) << line;
    EXPECT_EQ(state_.ending.waits_for, -1) << line;
  }
}

}  // namespace
}  // namespace catena::launcher
