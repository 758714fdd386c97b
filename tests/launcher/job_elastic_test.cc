// A job that goes on with fewer agents when some are lost, and with more when
// they are back.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "launcher/contract.h"
#include "launcher/job_layout.h"
#include "tests/launcher/job_state_fixture.h"

namespace catena::launcher {
namespace {

using std::chrono::seconds;
using ::testing::Contains;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

class JobElasticTest : public JobStateTest {
 protected:
  JobElasticTest() {
    state_ = JobState({.ranks = {{0, 1}, {2, 3}, {4, 5}},
                       .least_agents = 2,
                       .rejoin = seconds(8),
                       .hosts = {"n1", "n2", "n3"},
                       .policy = {.most_restarts = 3},
                       .grace = seconds(5),
                       .contact = {.heartbeat = seconds(1),
                                   .lease = seconds(4),
                                   .margin = seconds(1)}});
  }
  Texts ready(int agent, std::uint64_t incarnation = 0) {
    incarnations_[agent] = incarnation;
    return texts(receive(state_, {agent, 0, AgentReady{}, incarnation}, now_));
  }
  /// So many, in which these are heard.
  Texts pass(int count, const std::vector<int>& agents) {
    Texts all;
    for (int second = 0; second < count; ++second) {
      for (const int agent : agents) {
        const bool runs = state_.started && takes_part(state_, agent);
        texts(receive(state_,
                      {agent, state_.generation - (runs ? 0 : 1),
                       Heartbeat{.empty = !runs}, incarnations_[agent]},
                      now_));
      }
      const Texts now = later(seconds(1));
      all.insert(all.end(), now.begin(), now.end());
    }
    return all;
  }
  void begin_with_all() {
    static_cast<void>(texts(begin(state_, now_)));
    for (int agent = 0; agent < 3; ++agent) ready(agent);
    hear(0, 1, RendezvousOpen{"h:1"});
    for (int rank = 0; rank < 6; ++rank) hear(rank / 2, 1, RankJoined{rank});
    ASSERT_EQ(state_.phase, JobPhase::kRunning);
    ASSERT_EQ(state_.world, 6);
  }
  /// Its connection ends, and no other process takes its place.
  void lose(int agent) {
    static_cast<void>(texts(agent_gone(state_, agent, "cut", now_)));
    for (int other = 0; other < 3; ++other) {
      if (other != agent) empty(other, state_.generation);
    }
  }

  std::map<int, std::uint64_t> incarnations_;
};

TEST_F(JobElasticTest, GoesOnWithoutTheOneThatIsNotBack) {
  begin_with_all();
  checkpoint_seen(state_, 10);
  lose(0);
  EXPECT_EQ(state_.generation, 1) << "its lease is not over";
  EXPECT_THAT(pass(6, {1, 2}), Contains("replace 0"));
  EXPECT_EQ(state_.generation, 2);
  EXPECT_EQ(state_.phase, JobPhase::kStarting);
  // Rank 0 is another agent's now, and so is the place where ranks meet.
  EXPECT_THAT(pass(9, {1, 2}), Contains("1<open 2"));
  EXPECT_THAT(said_, HasSubstr("generation 2 begins without agents 0 (n1): 2 "
                               "of 3 take part, 4 ranks"));
  EXPECT_THAT(hear(2, 2, RendezvousOpen{"h:3"}), IsEmpty());
  EXPECT_THAT(hear(1, 2, RendezvousOpen{"h:2"}),
              ElementsAre("1<start 2", "2<start 2"));
  EXPECT_EQ(state_.world, 4);
  EXPECT_EQ(state_.ranks[2], (std::vector<int>{2, 3}));
  EXPECT_EQ(state_.agents, 2);
  EXPECT_EQ(state_.nodes[1], 0);
  EXPECT_EQ(state_.nodes[2], 1);
  EXPECT_EQ(host_of(state_, 0), "n2");
  for (int rank = 0; rank < 4; ++rank) {
    hear(1 + rank / 2, 2, RankJoined{rank});
  }
  EXPECT_EQ(state_.phase, JobPhase::kRunning);
}

TEST_F(JobElasticTest, WhoIsBackHasRanksInTheNextGeneration) {
  begin_with_all();
  lose(2);
  pass(6, {0, 1});
  pass(9, {0, 1});
  hear(0, 2, RendezvousOpen{"h:2"});
  ASSERT_EQ(state_.world, 4);
  EXPECT_THAT(ready(2, 1), IsEmpty());
  EXPECT_EQ(state_.world, 4) << "nothing is stopped for it";
  hear(0, 2, RankExited{killed(0)});
  later(seconds(1));
  empty(0, 2);
  empty(1, 2);
  later(seconds(2));
  EXPECT_EQ(state_.generation, 3);
  EXPECT_EQ(state_.world, 6);
  EXPECT_THAT(hear(0, 3, RendezvousOpen{"h:3"}),
              ElementsAre("0<start 3", "1<start 3", "2<start 3"));
}

TEST_F(JobElasticTest, WhoStaysAwayIsAskedForLessAndLessOften) {
  begin_with_all();
  lose(2);
  pass(15, {0, 1});
  hear(0, 2, RendezvousOpen{"h:2"});
  for (int rank = 0; rank < 4; ++rank) hear(rank / 2, 2, RankJoined{rank});
  static_cast<void>(texts(agent_gone(state_, 2, "no route", now_)));
  const auto tries = [&](int minutes) {
    int count = 0;
    for (int second = 0; second < 60 * minutes; ++second) {
      for (const std::string& text : pass(1, {0, 1})) {
        if (text != "replace 2") continue;
        ++count;
        static_cast<void>(texts(agent_gone(state_, 2, "no route", now_)));
      }
    }
    return count;
  };
  EXPECT_GE(tries(5), 3);
  static_cast<void>(tries(30));
  EXPECT_EQ(tries(20), 2);
  EXPECT_EQ(state_.restarted.front().host, "n3");
  ready(2, 9);
  EXPECT_TRUE(state_.absences.empty());
}

TEST_F(JobElasticTest, TooFewAreWaitedForUntilTheEndOfTheStart) {
  state_.options.start_timeout = seconds(40);
  begin_with_all();
  static_cast<void>(texts(agent_gone(state_, 1, "cut", now_)));
  lose(2);
  pass(20, {0});
  EXPECT_EQ(state_.phase, JobPhase::kStarting);
  // One more is enough, as the time of the others is over.
  EXPECT_THAT(ready(2, 1), ElementsAre("0<open 2"));
  EXPECT_EQ(state_.world, 4);
}

TEST_F(JobElasticTest, TheFirstStartIsWithThoseThatCome) {
  static_cast<void>(texts(begin(state_, now_)));
  ready(1);
  EXPECT_THAT(texts(agent_gone(state_, 0, "no route", now_)), IsEmpty());
  EXPECT_FALSE(is_end(state_.phase));
  ready(2);
  EXPECT_THAT(pass(9, {1, 2}), Contains("1<open 1"));
  EXPECT_EQ(state_.world, 4);
  // One that never said anything is heard when it comes at last.
  ready(0, 2);
  EXPECT_TRUE(state_.ready.contains(0));
  EXPECT_FALSE(state_.contacts.silent(0, now_));
}

TEST_F(JobElasticTest, WhoIsAwayHasItsTimeInEveryGeneration) {
  begin_with_all();
  lose(2);
  pass(15, {0, 1});
  hear(0, 2, RendezvousOpen{"h:2"});
  for (int rank = 0; rank < 4; ++rank) hear(rank / 2, 2, RankJoined{rank});
  hear(0, 2, RankExited{killed(0)});
  later(seconds(1));
  empty(0, 2);
  empty(1, 2);
  EXPECT_THAT(pass(6, {0, 1}), Not(Contains("0<open 3")));
  EXPECT_THAT(hear(0, 3, RendezvousOpen{"h:3"}), IsEmpty());
  EXPECT_THAT(ready(2, 1), ElementsAre("0<open 3"));
  EXPECT_EQ(state_.world, 6);
}

TEST_F(JobElasticTest, AStartThatIsGivenUpNeedsNoWordOfALostAgent) {
  state_.options.start_timeout = seconds(20);
  static_cast<void>(texts(begin(state_, now_)));
  for (int agent = 0; agent < 3; ++agent) ready(agent);
  pass(13, {0, 1, 2});
  EXPECT_THAT(pass(8, {0, 1}), Contains("0<stop 1"));
  empty(0, 1);
  empty(1, 1);
  pass(4, {0, 1});
  EXPECT_EQ(state_.generation, 2);
}

TEST_F(JobElasticTest, TooFewAtTheFirstStartAreTheEnd) {
  static_cast<void>(texts(begin(state_, now_)));
  texts(agent_gone(state_, 0, "no route", now_));
  EXPECT_THAT(texts(agent_gone(state_, 1, "no route", now_)),
              ElementsAre("finish"));
  expect_end(JobPhase::kFailed, kExitNotAssembled);
}

TEST_F(JobElasticTest, OneThatIsLostBeforeRanksMeetIsLeftOutToo) {
  state_.options.least_agents = 1;
  begin_with_all();
  lose(0);
  pass(6, {1, 2});
  EXPECT_THAT(pass(9, {1, 2}), Contains("1<open 2"));
  // The one that was asked where to meet is lost before it says so.
  static_cast<void>(texts(agent_gone(state_, 1, "cut", now_)));
  EXPECT_THAT(pass(2, {2}), Contains("2<open 2"));
  EXPECT_THAT(hear(1, 2, RendezvousOpen{"h:2"}), IsEmpty());
  EXPECT_THAT(hear(2, 2, RendezvousOpen{"h:3"}), ElementsAre("2<start 2"));
  EXPECT_EQ(state_.world, 2);
}

}  // namespace
}  // namespace catena::launcher
