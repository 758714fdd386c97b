// A job whose agents are elsewhere: what it makes of their silence.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>

#include "launcher/contract.h"
#include "tests/launcher/job_state_fixture.h"

namespace catena::launcher {
namespace {

using Seconds = std::chrono::duration<double>;
using std::chrono::seconds;
using ::testing::Contains;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

// The coordinator's last word comes a lease after the agent's, or where the
// connection ends at once with it; then it is another lease and the margin.
TEST(ContactRulesTest, RanksOutliveTheirAgentsLeaseButNoAgentThatIsLost) {
  for (const double lease : {0.1, 1.0, 10.0, 3600.0}) {
    const ContactRules rules =
        contact_rules(std::chrono::duration_cast<Duration>(Seconds(lease)));
    EXPECT_GT(rules.rank_lease(), rules.lease) << lease;
    EXPECT_LT(rules.rank_lease(), rules.until_lost() - rules.lease) << lease;
  }
}

/// The same over a wire that may be cut.
class JobContactTest : public JobStateTest {
 protected:
  JobContactTest() {
    state_ = JobState({.ranks = {{0, 1}, {2, 3}},
                       .hosts = {"n1", "n2"},
                       .grace = seconds(5),
                       .contact = {.heartbeat = seconds(1),
                                   .lease = seconds(10),
                                   .margin = seconds(2)}});
  }
  Texts beat(int agent, int generation, bool empty,
             std::uint64_t incarnation = 0) {
    return texts(receive(
        state_, {agent, generation, Heartbeat{.empty = empty}, incarnation},
        now_));
  }
  Texts gone(int agent) {
    return texts(agent_gone(state_, agent, "it is silent", now_));
  }
  /// A second after the other, in which these are heard.
  Texts seconds_with(int count, const std::vector<int>& agents) {
    Texts all;
    for (int second = 0; second < count; ++second) {
      for (const int agent : agents) beat(agent, state_.generation, false);
      const Texts now = later(seconds(1));
      all.insert(all.end(), now.begin(), now.end());
    }
    return all;
  }
};

TEST_F(JobContactTest, WhatIsWantedIsSaidAgainUntilItIsDone) {
  start();
  EXPECT_THAT(later(seconds(1)), ElementsAre("0<start 1", "1<start 1"));
  beat(1, 1, false);
  EXPECT_THAT(later(seconds(1)), ElementsAre("0<start 1", "1<ping 1"));
}

TEST_F(JobContactTest, AnAgentThatIsHeardNoMoreIsLostAfterTwoLeases) {
  run();
  for (const int agent : {0, 1}) beat(agent, 1, false);
  EXPECT_THAT(seconds_with(9, {0}), Not(Contains("0<kill 1")));
  // Its own lease is to end: nothing is said to it any more.
  EXPECT_THAT(seconds_with(1, {0}), ElementsAre("0<ping 1", "0<kill 1"));
  EXPECT_THAT(seconds_with(11, {0}), Each("0<kill 1"));
  EXPECT_THAT(empty(0, 1), IsEmpty()) << "it may still have ranks";
  EXPECT_THAT(later(seconds(1)), ElementsAre("0<ping 1", "replace 1"));
  EXPECT_EQ(state_.generation, 2);
  EXPECT_THAT(said_, HasSubstr("agent 1 (n2) is not heard of any more"));
  // The next generation waits for the process that takes its place.
  EXPECT_THAT(seconds_with(20, {0}), Each("0<ping 2"));
  EXPECT_EQ(state_.phase, JobPhase::kStarting);
  EXPECT_THAT(said_, HasSubstr("1 of 2 agents are not ready: 1 (n2)"));
  EXPECT_THAT(beat(1, 1, true), IsEmpty()) << "of the former one";
  EXPECT_THAT(texts(receive(state_, {1, 0, AgentReady{}, 1}, now_)),
              ElementsAre("0<open 2"));
  EXPECT_THAT(hear(0, 2, RendezvousOpen{"h:2"}),
              ElementsAre("0<start 2", "1<start 2"));
}

TEST_F(JobContactTest, AnotherProcessThanBeforeHasNoneOfItsRanks) {
  run();
  for (const int agent : {0, 1}) beat(agent, 1, false);
  EXPECT_THAT(texts(receive(state_, {1, 0, AgentReady{}, 7}, now_)),
              ElementsAre("0<kill 1"));
  EXPECT_THAT(beat(1, 1, false), IsEmpty()) << "of the one before";
  EXPECT_THAT(empty(0, 1), IsEmpty());
  EXPECT_THAT(said_, HasSubstr("agent 1 (n2) was started again"));
  EXPECT_EQ(state_.phase, JobPhase::kRestarting);
  EXPECT_THAT(later(seconds(1)), ElementsAre("0<open 2"));
}

TEST_F(JobContactTest, AnAgentThatIsGoneIsReplacedAfterOneLease) {
  run();
  EXPECT_THAT(gone(1), ElementsAre("0<kill 1"));
  EXPECT_THAT(gone(1), IsEmpty()) << "known";
  EXPECT_THAT(hear(1, 0, AgentReady{}), IsEmpty()) << "late";
  EXPECT_THAT(empty(0, 1), IsEmpty());
  EXPECT_THAT(seconds_with(11, {0}), Not(Contains("replace 1")));
  EXPECT_EQ(state_.generation, 1) << "it may still have ranks";
  EXPECT_THAT(seconds_with(1, {0}), Contains("replace 1"));
  EXPECT_EQ(state_.generation, 2);
  EXPECT_THAT(said_, HasSubstr("agent 1 (n2) is gone: it is silent"));
  EXPECT_EQ(state_.cause->code, kExitInternal);
  EXPECT_THAT(seconds_with(5, {0}), Each("0<ping 2"));
  EXPECT_THAT(texts(receive(state_, {1, 0, AgentReady{}, 1}, now_)),
              ElementsAre("0<open 2"));
}

TEST_F(JobContactTest, RanksThatLostThoseOfAGoneAgentAreNotTheCause) {
  run();
  RankEnding follows = left(0, kExitInternal);
  follows.lost = true;
  exited(1, follows);
  gone(1);
  empty(0, 1);
  seconds_with(12, {0});
  EXPECT_EQ(state_.cause->rank, -1);
}

TEST_F(JobContactTest, ARankThatFailedBeforeItsAgentWasGoneIsTheCause) {
  run();
  exited(1, killed(2));
  gone(1);
  empty(0, 1);
  seconds_with(12, {0});
  EXPECT_EQ(state_.cause->rank, 2);
}

TEST_F(JobContactTest, AnAgentThatNeverComesEndsTheJob) {
  static_cast<void>(begin(state_, now_));
  EXPECT_THAT(gone(1), ElementsAre("finish"));
  EXPECT_THAT(said_, HasSubstr("agent 1 (n2) is gone: it is silent"));
  expect_end(JobPhase::kFailed, kExitNotAssembled);
}

TEST_F(JobContactTest, ASuccessorThatDoesNotComeIsTriedAgainUntilItIsTooLate) {
  run();
  gone(1);
  empty(0, 1);
  EXPECT_THAT(seconds_with(12, {0}), Contains("replace 1"));
  EXPECT_THAT(seconds_with(3, {0}), Not(Contains("replace 1")));
  EXPECT_THAT(gone(1), IsEmpty());
  EXPECT_THAT(seconds_with(11, {0}), Not(Contains("replace 1")));
  EXPECT_THAT(seconds_with(1, {0}), Contains("replace 1"));
  EXPECT_EQ(state_.policy.restarts, 1) << "no generation began in between";
  EXPECT_THAT(seconds_with(600, {0}), Contains("finish"));
  EXPECT_THAT(said_, HasSubstr("1 of 2 agents are not ready: 1 (n2) after"));
  expect_end(JobPhase::kFailed, kExitNotAssembled);
}

TEST_F(JobContactTest, AStopDoesNotWaitForeverForAGoneAgent) {
  run();
  asked(SIGINT);
  EXPECT_THAT(gone(1), IsEmpty());
  EXPECT_THAT(empty(0, 1), IsEmpty());
  EXPECT_THAT(seconds_with(12, {0}), Contains("finish"));
  expect_end(JobPhase::kCancelled, 128 + SIGINT);
}

}  // namespace
}  // namespace catena::launcher
