#include "launcher/agent_state.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>

namespace catena::launcher {
namespace {

using std::chrono::seconds;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

const Time kNow = Time(seconds(1000));

std::string text_of(const AgentAction& action) {
  return std::visit(
      Overloaded{
          [](const OpenListener&) { return std::string("listen"); },
          [](const SpawnRank& a) { return "spawn " + std::to_string(a.rank); },
          [](const SignalRank& a) {
            return std::to_string(a.signal) + " to " +
                   std::to_string(a.process);
          },
          [](const InspectRank& a) {
            return "inspect " + std::to_string(a.process);
          },
          [](const Report& report) {
            return std::visit(
                Overloaded{
                    [](const AgentReady&) { return std::string("ready"); },
                    [](const Heartbeat& r) {
                      return std::string(r.empty ? "idle" : "beat");
                    },
                    [](const RendezvousOpen& r) { return "at " + r.endpoint; },
                    [](const RankStarted& r) {
                      return "started " + std::to_string(r.rank);
                    },
                    [](const RankJoined& r) {
                      return "joined " + std::to_string(r.rank);
                    },
                    [](const RankStepped& r) {
                      return "step " + std::to_string(r.step);
                    },
                    [](const RankSuspected& r) {
                      return std::to_string(r.rank) + " " + r.text;
                    },
                    [](const RankExited& r) {
                      return "exited " + std::to_string(r.ending.rank);
                    },
                    [](const GenerationEmpty& r) {
                      return "empty of " + std::to_string(r.endings.size());
                    }},
                report.body);
          }},
      action);
}

std::vector<std::string> texts(const AgentActions& actions) {
  std::vector<std::string> result;
  for (const AgentAction& action : actions) result.push_back(text_of(action));
  return result;
}

class AgentStateTest : public ::testing::Test {
 protected:
  std::vector<std::string> tell(int generation, auto body) {
    return texts(receive(state_, {generation, body}, kNow));
  }
  std::vector<std::string> start(int generation, std::vector<int> ranks) {
    return tell(generation,
                StartGeneration{.world = 4, .ranks = std::move(ranks)});
  }
  std::vector<std::string> spawned(int rank) {
    return texts(rank_spawned(state_, rank, 100 + rank, kNow));
  }
  std::vector<std::string> reaped(int generation, int rank, int code = 0) {
    return texts(rank_reaped(state_, generation, rank, code, 0, ""));
  }

  AgentState state_{0, seconds(5)};
};

TEST_F(AgentStateTest, AGenerationFromStartToEnd) {
  EXPECT_THAT(tell(1, OpenRendezvous{}), ElementsAre("listen"));
  EXPECT_THAT(texts(listener_opened(state_, 1, "h:1")), ElementsAre("at h:1"));
  EXPECT_THAT(start(1, {0, 1}), ElementsAre("spawn 0", "spawn 1"));
  EXPECT_THAT(spawned(0), ElementsAre("started 0"));
  EXPECT_THAT(spawned(1), ElementsAre("started 1"));
  EXPECT_THAT(texts(rank_said(state_, 1, 1, "joined", kNow)),
              ElementsAre("joined 1"));
  EXPECT_THAT(texts(rank_said(state_, 1, 0, "step 1", kNow)),
              ElementsAre("joined 0", "step 1"));
  EXPECT_THAT(texts(rank_said(state_, 1, 0, "step 2", kNow)),
              ElementsAre("step 2"));
  EXPECT_THAT(reaped(1, 0), ElementsAre("exited 0"));
  EXPECT_THAT(reaped(1, 1), ElementsAre("exited 1", "empty of 2"));
  EXPECT_EQ(state_.phase, AgentState::Phase::kReady);
}

TEST_F(AgentStateTest, WhatIsOverIsNeverStartedAgain) {
  EXPECT_THAT(start(2, {0}), ElementsAre("spawn 0"));
  EXPECT_THAT(start(2, {0}), IsEmpty());
  EXPECT_THAT(start(3, {0}), IsEmpty()) << "generation 2 is not empty";
  EXPECT_THAT(reaped(2, 0), ElementsAre("exited 0", "empty of 1"));
  for (const int generation : {1, 2}) {
    EXPECT_THAT(start(generation, {0}), IsEmpty());
    EXPECT_THAT(tell(generation, Stop{}), IsEmpty());
    EXPECT_THAT(tell(generation, OpenRendezvous{}), IsEmpty());
  }
  EXPECT_EQ(state_.stale, 8);
  EXPECT_THAT(start(3, {0}), ElementsAre("spawn 0"));
}

TEST_F(AgentStateTest, AStopThatOvertakesItsStartFencesItOff) {
  EXPECT_THAT(tell(1, Stop{}), ElementsAre("empty of 0"));
  EXPECT_THAT(start(1, {0}), IsEmpty());
  EXPECT_THAT(start(2, {0}), ElementsAre("spawn 0"));
}

TEST_F(AgentStateTest, AStopReachesRanksThatRun) {
  start(1, {0, 1});
  spawned(0);
  spawned(1);
  reaped(1, 0, 3);
  EXPECT_THAT(tell(1, Stop{}), ElementsAre("15 to 101", "18 to 101"));
  EXPECT_THAT(tell(1, Stop{}), IsEmpty());
  EXPECT_EQ(next_deadline(state_), kNow + seconds(5));
  EXPECT_THAT(texts(tick(state_, kNow + seconds(5))), ElementsAre("9 to 101"));
  EXPECT_THAT(reaped(1, 1), ElementsAre("exited 1", "empty of 2"));
}

TEST_F(AgentStateTest, ARankThatIsStillBeingStartedIsStoppedWhenItIs) {
  start(1, {0, 1});
  EXPECT_THAT(tell(1, Stop{.at_once = true}), IsEmpty());
  EXPECT_THAT(spawned(0), ElementsAre("started 0", "9 to 100"));
  EXPECT_THAT(reaped(1, 1, 127), ElementsAre("exited 1"));
}

TEST_F(AgentStateTest, EventsOfAnotherGenerationOrTwiceAreNothing) {
  start(1, {0, 1});
  EXPECT_THAT(reaped(1, 0), ElementsAre("exited 0"));
  EXPECT_THAT(reaped(1, 0), IsEmpty());
  EXPECT_THAT(reaped(2, 1), IsEmpty());
  EXPECT_THAT(reaped(1, 7), IsEmpty());
  EXPECT_THAT(texts(rank_said(state_, 2, 1, "joined", kNow)), IsEmpty());
}

TEST_F(AgentStateTest, ARankThatHangsIsInspectedAndThenEnded) {
  state_ = AgentState(0, seconds(30), seconds(10));
  start(1, {0, 1});
  spawned(0);
  spawned(1);
  for (const int rank : {0, 1}) {
    EXPECT_THAT(texts(rank_said(state_, 1, rank, "section step", kNow)),
                IsEmpty());
  }
  EXPECT_EQ(next_deadline(state_), kNow + seconds(10));
  static_cast<void>(rank_said(state_, 1, 0, "step 1", kNow + seconds(5)));
  EXPECT_THAT(texts(tick(state_, kNow + seconds(10))),
              ElementsAre("inspect 101"));
  EXPECT_THAT(texts(rank_said(state_, 1, 1, "step 1", kNow + seconds(12))),
              ElementsAre("1 goes on after 12 s", "joined 1", "step 1"));
  EXPECT_THAT(texts(tick(state_, kNow + seconds(15))),
              ElementsAre("inspect 100"));
  EXPECT_THAT(texts(tick(state_, kNow + seconds(22))),
              ElementsAre("inspect 101"));
  EXPECT_THAT(texts(tick(state_, kNow + seconds(25))),
              ElementsAre("inspect 100", "15 to 100", "18 to 100"));
  EXPECT_THAT(texts(tick(state_, kNow + seconds(30))), ElementsAre("9 to 100"));
}

TEST_F(AgentStateTest, AnOpenSectionDiesWithItsGeneration) {
  state_ = AgentState(0, seconds(30), seconds(10));
  start(1, {0});
  spawned(0);
  static_cast<void>(rank_said(state_, 1, 0, "section step", kNow));
  EXPECT_THAT(reaped(1, 0), ElementsAre("exited 0", "empty of 1"));
  EXPECT_FALSE(next_deadline(state_).has_value());
  start(2, {0});
  spawned(0);
  static_cast<void>(rank_said(state_, 1, 0, "section step", kNow));
  EXPECT_FALSE(next_deadline(state_).has_value()) << "of another generation";
}

TEST_F(AgentStateTest, OnlyRanksThatSaySectionsAreAskedForAnything) {
  start(1, {0, 1});
  spawned(0);
  spawned(1);
  // One that does not know the signal would die of it.
  EXPECT_THAT(tell(1, Save{}), IsEmpty());
  EXPECT_THAT(tell(1, Inspect{}), IsEmpty());
  static_cast<void>(rank_said(state_, 1, 1, "section load", kNow));
  EXPECT_THAT(tell(1, Save{}), ElementsAre("10 to 101"));
  EXPECT_THAT(tell(1, Inspect{}), ElementsAre("inspect 101"));
  EXPECT_THAT(reaped(1, 1), ElementsAre("exited 1"));
  EXPECT_THAT(tell(1, Save{}), IsEmpty());
  EXPECT_THAT(tell(1, Inspect{}), IsEmpty());
}

TEST_F(AgentStateTest, AnAgentThatHearsNothingForALeaseEndsItsRanks) {
  state_ = AgentState(0, seconds(30), {},
                      {.heartbeat = seconds(1), .lease = seconds(10)});
  begin(state_, kNow);
  EXPECT_THAT(texts(tick(state_, kNow)), ElementsAre("idle"));
  start(1, {0});
  spawned(0);
  EXPECT_EQ(next_deadline(state_), kNow + seconds(1));
  EXPECT_THAT(texts(tick(state_, kNow + seconds(9))), ElementsAre("beat"));
  static_cast<void>(receive(state_, {1, Ping{}}, kNow + seconds(9)));
  EXPECT_THAT(texts(tick(state_, kNow + seconds(18))), ElementsAre("beat"));
  EXPECT_THAT(texts(tick(state_, kNow + seconds(19))),
              ElementsAre("9 to 100", "beat"));
  EXPECT_THAT(reaped(1, 0), ElementsAre("exited 0", "empty of 1"));
  const AgentActions idle = tick(state_, kNow + seconds(30));
  ASSERT_THAT(texts(idle), ElementsAre("idle"));
  const auto& beat = std::get<Heartbeat>(std::get<Report>(idle.front()).body);
  EXPECT_EQ(beat.endings.size(), 1U) << "whoever missed it hears it again";
}

// A step of each rank is a message of each: too many, where there are many.
TEST_F(AgentStateTest, WhereThereAreHeartbeatsTheySayTheStep) {
  const auto said = [&](const std::string& line) {
    return texts(rank_said(state_, 1, 0, line, kNow));
  };
  start(1, {0});
  spawned(0);
  EXPECT_THAT(said("joined"), ElementsAre("joined 0"));
  EXPECT_THAT(said("step 1"), ElementsAre("step 1"));

  state_ = AgentState(0, seconds(30), {},
                      {.heartbeat = seconds(1), .lease = seconds(10)});
  begin(state_, kNow);
  start(1, {0});
  spawned(0);
  EXPECT_THAT(said("joined"), ElementsAre("joined 0"));
  EXPECT_THAT(said("step 1"), IsEmpty());
  EXPECT_THAT(said("step 2"), IsEmpty());
  const AgentActions beat = tick(state_, kNow + seconds(1));
  ASSERT_THAT(texts(beat), ElementsAre("beat"));
  EXPECT_EQ(std::get<Heartbeat>(std::get<Report>(beat.front()).body).step, 2);
}

TEST_F(AgentStateTest, ACommandOfALaterGenerationEndsWhatRuns) {
  start(1, {0});
  spawned(0);
  EXPECT_THAT(tell(2, Ping{}), ElementsAre("9 to 100"));
  EXPECT_THAT(reaped(1, 0), ElementsAre("exited 0", "empty of 1"));
  EXPECT_THAT(start(2, {0}), ElementsAre("spawn 0"));
}

TEST_F(AgentStateTest, APlaceToMeetIsOpenedOnce) {
  EXPECT_THAT(tell(1, OpenRendezvous{}), ElementsAre("listen"));
  EXPECT_THAT(tell(1, OpenRendezvous{}), IsEmpty());
  EXPECT_THAT(texts(listener_opened(state_, 1, "h:1")), ElementsAre("at h:1"));
  EXPECT_THAT(tell(1, OpenRendezvous{}), ElementsAre("at h:1"));
  EXPECT_THAT(tell(2, OpenRendezvous{}), ElementsAre("listen"));
  EXPECT_THAT(tell(1, OpenRendezvous{}), IsEmpty());
  EXPECT_THAT(texts(listener_opened(state_, 1, "h:1")), IsEmpty());
}

}  // namespace
}  // namespace catena::launcher
