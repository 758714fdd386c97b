#include "launcher/monitor/recoveries.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "tests/launcher/monitor/run_files.h"

namespace catena::launcher {
namespace {

std::string moved(double seconds, const char* state, int step = 0,
                  int checkpoint = 0) {
  return fmt::format(
      R"({{"seconds":{},"state":"{}","step":{},"checkpoint_step":{}}})",
      seconds, state, step, checkpoint);
}

std::string ended(double seconds, int step, bool done = false) {
  return fmt::format(R"({{"seconds":{},"rank":0,"done":{},"step":{}}})",
                     seconds, done, step);
}

Recoveries of(const std::vector<std::string>& lines) {
  Recoveries recoveries;
  for (const std::string& line : lines) recoveries.take(line);
  return recoveries;
}

std::int64_t count(const Distribution& durations) {
  std::int64_t sum = 0;
  for (const std::int64_t in_bucket : durations.counts) sum += in_bucket;
  return sum;
}

TEST(RecoveriesTest, PhasesOfARestartFollowEachOther) {
  const Recoveries found = of(
      {moved(0, "NEW"), moved(1, "STARTING"), moved(2, "RENDEZVOUS"),
       moved(3, "RUNNING"), ended(10, 17), moved(10.5, "STOPPING", 17, 10),
       ended(11, 16), moved(12.5, "RESTARTING", 17, 15), moved(13, "STARTING"),
       moved(15, "RENDEZVOUS"), moved(16.5, "RUNNING")});
  EXPECT_DOUBLE_EQ(found.stop.sum, 2.5);
  EXPECT_DOUBLE_EQ(found.start.sum, 4);
  EXPECT_EQ(count(found.stop), 1);
  EXPECT_EQ(count(found.start), 1);
  EXPECT_EQ(found.lost_steps, 2);
}

TEST(RecoveriesTest, RanksThatEndByThemselvesNeedNobodyToStopThem) {
  const Recoveries found =
      of({moved(0, "NEW"), moved(3, "RUNNING"), ended(10, 17), ended(10.25, 17),
          moved(10.5, "RESTARTING", 17, 15), moved(12, "RUNNING")});
  EXPECT_DOUBLE_EQ(found.stop.sum, 0.5);
  EXPECT_DOUBLE_EQ(found.start.sum, 1.5);
}

// `step` of a job is the furthest there ever was.
TEST(RecoveriesTest, StepsAreLostOnlyByTheGenerationThatTookThem) {
  const Recoveries found =
      of({moved(0, "NEW"), ended(10, 17), moved(11, "STOPPING", 17, 10),
          moved(12, "RESTARTING", 17, 10), moved(13, "RUNNING", 17, 10),
          ended(14, 11), moved(15, "STOPPING", 17, 10),
          moved(16, "RESTARTING", 17, 10), moved(17, "RUNNING", 17, 10),
          ended(18, 9), moved(19, "RESTARTING", 17, 10)});
  EXPECT_EQ(found.lost_steps, 7 + 1);
}

TEST(RecoveriesTest, AnAgentThatIsLostTellsNoEndOfARank) {
  const Recoveries found =
      of({moved(0, "NEW"), moved(3, "RUNNING"), moved(11, "STOPPING", 17, 10),
          moved(12, "RESTARTING", 17, 10), moved(20, "STOPPING", 17, 10),
          moved(21, "RESTARTING", 17, 10)});
  EXPECT_DOUBLE_EQ(found.stop.sum, 2);
  EXPECT_EQ(count(found.start), 0);
  EXPECT_EQ(found.lost_steps, 7) << "the second never ran";
}

TEST(RecoveriesTest, AJobThatEndsInOrderLosesNothing) {
  const Recoveries found =
      of({moved(0, "NEW"), moved(3, "RUNNING"), ended(10, 17, true),
          ended(10, 17, true), moved(11, "SUCCEEDED", 17, 15)});
  EXPECT_EQ(found.lost_steps, 0);
  EXPECT_EQ(count(found.stop) + count(found.start), 0);
}

// Counters do not fall, as long as somebody serves the run.
TEST(RecoveriesTest, ANewJobAddsToThoseBefore) {
  Recoveries found = of({moved(0, "NEW"), ended(10, 17), moved(11, "STOPPING"),
                         moved(12, "RESTARTING")});
  EXPECT_EQ(found.lost_steps, 17);
  found.take(moved(0, "NEW"));
  found.take(moved(1, "RUNNING"));
  EXPECT_EQ(found.lost_steps, 17);
  EXPECT_EQ(count(found.stop), 1);
  EXPECT_EQ(count(found.start), 0);
  found.take(ended(2, 5));
  found.take(moved(3, "RESTARTING"));
  EXPECT_EQ(found.lost_steps, 17 + 5);
}

TEST(RecoveriesTest, WhatIsNoLineOfAJournalIsPassedOver) {
  const Recoveries found =
      of({"", "7", "[]", "{", "{}", R"({"state":7,"seconds":"x"})",
          R"({"rank":[],"done":7,"step":"x"})", R"({"state":"RESTARTING"})",
          R"({"state":"RUNNING","seconds":null})"});
  EXPECT_EQ(found.lost_steps, 0);
  EXPECT_EQ(count(found.stop) + count(found.start), 0);
}

}  // namespace
}  // namespace catena::launcher
