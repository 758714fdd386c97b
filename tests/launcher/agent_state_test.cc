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
          [](const Report& report) {
            return std::visit(
                Overloaded{
                    [](const AgentReady&) { return std::string("ready"); },
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
  EXPECT_THAT(texts(rank_said(state_, 1, 1, "joined")),
              ElementsAre("joined 1"));
  EXPECT_THAT(texts(rank_said(state_, 1, 0, "step 1")),
              ElementsAre("joined 0", "step 1"));
  EXPECT_THAT(texts(rank_said(state_, 1, 0, "step 2")), ElementsAre("step 2"));
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
  EXPECT_THAT(texts(rank_said(state_, 2, 1, "joined")), IsEmpty());
}

}  // namespace
}  // namespace catena::launcher
