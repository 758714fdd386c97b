#include "launcher/preflight/preflight_state.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <deque>
#include <random>
#include <set>

namespace catena::launcher {
namespace {

using namespace std::chrono_literals;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

PreflightOptions options_of(int agents, int enough) {
  PreflightOptions options{.enough = enough,
                           .patience = 100s,
                           .probe_time = 20s,
                           .ticket = "ticket"};
  for (int i = 0; i < agents; ++i) {
    options.hosts.push_back(fmt::format("node{}", i));
    options.ranks.push_back(1);
  }
  return options;
}

/// A preflight in virtual time, and what it wants.
class Watched {
 public:
  explicit Watched(int agents, int enough = 0)
      : state(options_of(agents, enough == 0 ? agents : enough)) {
    take(begin(state, now));
  }

  void take(const PreflightActions& actions) {
    for (const PreflightAction& action : actions) {
      if (const auto* ask = std::get_if<AskProbe>(&action)) {
        asked.push_back(*ask);
      } else if (const auto* say = std::get_if<SayWaiting>(&action)) {
        said.push_back(say->text);
      } else {
        ++done;
      }
    }
  }
  void come(int agent) { take(came(state, agent, now)); }
  void go(int agent) { take(went(state, agent, "killed", now)); }
  /// Answers the oldest question.
  void answer() {
    const AskProbe ask = asked.front();
    asked.pop_front();
    take(answered(state, ask.agent, answer_to(ask.probe), now));
  }
  Probed answer_to(const Probe& probe) const {
    return {probe.number,
            std::visit(
                Overloaded{[&](const ProbeClock&) -> decltype(Probed::body) {
                             return ClockFacts{now.wall + 500'000};
                           },
                           [](const ProbeMachine&) -> decltype(Probed::body) {
                             return MachineFacts{.cores = 3};
                           },
                           [](const ProbeCompute&) -> decltype(Probed::body) {
                             return ComputeFacts{5};
                           },
                           [](const ProbeListen& p) -> decltype(Probed::body) {
                             return ListenFacts{p.ticket, 77};
                           },
                           [](const ProbeLink& p) -> decltype(Probed::body) {
                             EXPECT_EQ(p.address, "ticket");
                             EXPECT_EQ(p.port, 77);
                             return LinkFacts{1e-4, 1e9};
                           }},
                probe.body)};
  }
  void pass(Duration time) {
    now.now += time;
    now.wall +=
        std::chrono::duration_cast<std::chrono::microseconds>(time).count();
  }
  /// Passes time until the next deadline.
  void wait() {
    pass(*next_deadline(state) - now.now);
    take(tick(state, now));
  }

  Moment now{Time(1000s), 1'700'000'000'000'000};
  PreflightState state;
  std::deque<AskProbe> asked;
  std::vector<std::string> said;
  int done = 0;
};

TEST(PreflightStateTest, AsksAllOneQuestionAfterAnother) {
  Watched all(3);
  all.come(0);
  all.come(2);
  EXPECT_THAT(all.asked, IsEmpty());
  all.come(1);
  std::vector<std::string> order;
  while (!all.asked.empty()) {
    order.emplace_back(name_of(all.state.stage));
    all.pass(100ms);
    all.answer();
  }
  EXPECT_EQ(all.done, 1);
  EXPECT_EQ(order.size(), 15U);
  EXPECT_EQ(order[0], "clock");
  EXPECT_EQ(order[3], "machine");
  EXPECT_EQ(order[6], "compute");
  EXPECT_EQ(order[9], "listen");
  EXPECT_EQ(order[12], "link");
  ASSERT_EQ(all.state.links.size(), 3U);
  std::set<std::set<int>> pairs;
  for (const LinkFound& link : all.state.links) {
    EXPECT_EQ(link.failed, "");
    pairs.insert({link.from, link.to});
  }
  EXPECT_EQ(pairs.size(), 3U);
  for (const NodeFacts& node : all.state.nodes) {
    EXPECT_EQ(node.silent, "");
    EXPECT_EQ(node.machine->cores, 3);
    EXPECT_EQ(node.flops, 5);
  }
  // What the clock says is as of half the way.
  EXPECT_NEAR(*all.state.nodes[0].clock_ahead_seconds, 0.5 + 0.05, 1e-6);
  EXPECT_NEAR(all.state.nodes[0].round_trip_seconds, 0.1, 1e-6);
  EXPECT_NEAR(all.state.nodes[2].round_trip_seconds, 0.3, 1e-6);
  EXPECT_FALSE(next_deadline(all.state));
}

TEST(PreflightStateTest, OneAloneIsNotAskedHowFastItIs) {
  Watched one(1);
  one.come(0);
  while (!one.asked.empty()) one.answer();
  EXPECT_EQ(one.done, 1);
  EXPECT_TRUE(one.state.nodes[0].machine);
  EXPECT_FALSE(one.state.nodes[0].flops);
}

TEST(PreflightStateTest, AgentsOfOneMachineAreNotCompared) {
  Watched two(2);
  two.state.options.compare = false;
  two.come(0);
  two.come(1);
  while (!two.asked.empty()) two.answer();
  EXPECT_EQ(two.done, 1);
  EXPECT_TRUE(two.state.nodes[1].machine);
  EXPECT_FALSE(two.state.nodes[1].flops);
  EXPECT_THAT(two.state.links, IsEmpty());
}

TEST(PreflightStateTest, WhoSeemsSlowIsAskedAgain) {
  for (const int slow_times : {1, 2, 4, 9}) {
    Watched two(2);
    two.come(0);
    two.come(1);
    while (two.state.stage != PreflightStage::kCompute) two.answer();
    int asked = 0;
    while (two.state.stage == PreflightStage::kCompute) {
      const AskProbe ask = two.asked.front();
      two.asked.pop_front();
      const bool slow = ask.agent == 1 && asked++ < slow_times;
      two.take(answered(two.state, ask.agent,
                        {ask.probe.number, ComputeFacts{slow ? 1.0 : 5.0}},
                        two.now));
    }
    while (!two.asked.empty()) two.answer();
    EXPECT_EQ(two.done, 1);
    EXPECT_EQ(asked, std::min(slow_times + 1, 5));
    EXPECT_EQ(two.state.nodes[1].flops, slow_times < 5 ? 5 : 1);
  }
}

TEST(PreflightStateTest, WhoDoesNotAnswerIsNamedAndAskedNothingMore) {
  Watched two(2);
  two.come(0);
  two.come(1);
  two.answer();
  two.asked.clear();
  two.wait();
  ASSERT_EQ(two.said.size(), 1U);
  EXPECT_EQ(two.said[0],
            "preflight waits for 1 of 2 agents (clock): 1 (node1); 10 s of "
            "20 s");
  two.wait();
  EXPECT_THAT(two.state.nodes[1].silent,
              HasSubstr("did not answer the clock probe in 20 s"));
  EXPECT_TRUE(two.state.nodes[1].late);
  while (!two.asked.empty()) {
    EXPECT_EQ(two.asked.front().agent, 0);
    two.answer();
  }
  EXPECT_EQ(two.done, 1);
  EXPECT_TRUE(two.state.nodes[0].flops);
  EXPECT_FALSE(two.state.nodes[1].machine);
}

TEST(PreflightStateTest, WhoCannotAnswerIsNotLate) {
  Watched two(2);
  two.come(0);
  two.come(1);
  two.take(answered(two.state, 1, {1, ProbeFailed{"no cores"}}, two.now));
  EXPECT_EQ(two.state.nodes[1].silent, "its clock probe failed: no cores");
  EXPECT_FALSE(two.state.nodes[1].late);
}

TEST(PreflightStateTest, AgentsAreWaitedForUntilTheirTimeIsOver) {
  Watched some(3, 2);
  some.come(0);
  some.come(2);
  while (some.state.stage == PreflightStage::kGather) some.wait();
  EXPECT_EQ(some.said.size(), 9U);
  EXPECT_THAT(some.said[0], HasSubstr("1 of 3 agents (start): 1 (node1)"));
  EXPECT_EQ(some.asked.size(), 2U);
  // Too late: it is not asked, and holds nothing up.
  some.come(1);
  while (!some.asked.empty()) some.answer();
  EXPECT_EQ(some.done, 1);
  EXPECT_FALSE(some.state.there.contains(1));

  Watched all(3);
  all.come(0);
  while (all.done == 0) all.wait();
  EXPECT_THAT(all.asked, IsEmpty());
}

TEST(PreflightStateTest, AWayThatIsNotThereIsSaid) {
  Watched two(2);
  two.come(0);
  two.come(1);
  while (two.state.stage != PreflightStage::kLink) two.answer();
  ASSERT_EQ(two.asked.size(), 1U);
  two.asked.clear();
  while (two.done == 0) two.wait();
  ASSERT_EQ(two.state.links.size(), 1U);
  EXPECT_EQ(two.state.links[0].failed, "no answer in 20 s");
  EXPECT_TRUE(two.state.links[0].late);
  EXPECT_EQ(two.state.nodes[0].silent, "");
}

TEST(PreflightStateTest, AWayThatIsThereAtTheSecondTryIsThere) {
  Watched two(2);
  two.come(0);
  two.come(1);
  while (two.state.stage != PreflightStage::kLink) two.answer();
  const AskProbe ask = two.asked.front();
  two.asked.pop_front();
  two.take(answered(two.state, ask.agent,
                    {ask.probe.number, ProbeFailed{"not in 10 s"}}, two.now));
  EXPECT_EQ(two.done, 0);
  two.answer();
  EXPECT_EQ(two.done, 1);
  ASSERT_EQ(two.state.links.size(), 1U);
  EXPECT_EQ(two.state.links[0].failed, "");
}

TEST(PreflightStateTest, WhoMissesOneThatIsGoneIsNotToBlame) {
  Watched three(3, 2);
  for (const int agent : {0, 1, 2}) three.come(agent);
  while (three.state.stage != PreflightStage::kLink) three.answer();
  const AskProbe ask = three.asked.front();
  three.asked.pop_front();
  three.take(answered(three.state, ask.agent,
                      {ask.probe.number, ProbeFailed{"it stops"}}, three.now));
  const LinkFound failed = three.state.links.at(0);
  three.go(failed.to);
  while (three.done == 0) three.answer();
  EXPECT_EQ(three.state.gone.size(), 1U);
  for (const LinkFound& link : three.state.links) EXPECT_EQ(link.failed, "");
}

TEST(PreflightStateTest, ASlowOneThatFallsSilentDoesNotEndIt) {
  Watched three(3);
  for (const int agent : {0, 1, 2}) three.come(agent);
  while (three.state.stage != PreflightStage::kCompute) three.answer();
  for (int i = 0; i < 3; ++i) {
    const AskProbe ask = three.asked.front();
    three.asked.pop_front();
    three.take(
        answered(three.state, ask.agent,
                 {ask.probe.number, ComputeFacts{ask.agent == 0 ? 0.1 : 1.0}},
                 three.now));
  }
  ASSERT_EQ(three.asked.size(), 1U);
  EXPECT_EQ(three.asked.front().agent, 0);
  three.asked.clear();
  while (three.state.stage == PreflightStage::kCompute) three.wait();
  while (!three.asked.empty()) three.answer();
  EXPECT_EQ(three.done, 1);
  EXPECT_EQ(three.state.links.size(), 1U);
}

TEST(PreflightStateTest, ASlowWayIsLookedAtAgain) {
  Watched three(3);
  for (const int agent : {0, 1, 2}) three.come(agent);
  while (three.state.stage != PreflightStage::kLink) three.answer();
  int asked = 0;
  while (!three.asked.empty()) {
    const AskProbe ask = three.asked.front();
    three.asked.pop_front();
    const auto& meeting = three.state.meeting;
    const bool of_one = meeting[0].first == 1 || meeting[0].second == 1;
    const double speed = of_one && asked < 3 ? 1e8 : 1e9;
    ++asked;
    three.take(answered(three.state, ask.agent,
                        {ask.probe.number, LinkFacts{1e-4, speed}}, three.now));
  }
  // The two others have no reason to.
  EXPECT_EQ(asked, 5);
  EXPECT_EQ(three.done, 1);
  EXPECT_EQ(three.state.links.size(), 3U);
  for (const LinkFound& link : three.state.links) {
    EXPECT_EQ(link.facts.bytes_per_second, 1e9);
  }
}

TEST(PreflightStateTest, WhoIsGoneHoldsNothingUp) {
  Watched two(2, 1);
  two.come(0);
  two.go(1);
  EXPECT_EQ(two.asked.size(), 1U);
  two.go(0);
  EXPECT_EQ(two.done, 1);
  EXPECT_EQ(two.state.gone.at(1), "killed");
  two.go(0);
  two.come(1);
  EXPECT_EQ(two.done, 1);
}

/// Agents come, go, answer late, twice, in another order, or never: it ends
/// once, in time, and nobody is asked who is not there.
TEST(PreflightStateTest, EndsOnceWhateverAgentsDo) {
  for (unsigned seed = 0; seed < 2000; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937 random(seed);
    const auto below = [&](int most) {
      return static_cast<int>(random() % static_cast<unsigned>(most));
    };
    const int agents = 1 + below(8);
    Watched all(agents, 1 + below(agents));
    const Time begin = all.now.now;
    std::vector<std::pair<int, Probed>> answers;
    while (all.done == 0) {
      while (!all.asked.empty()) {
        const AskProbe ask = all.asked.front();
        all.asked.pop_front();
        ASSERT_TRUE(all.state.there.contains(ask.agent));
        for (int copies = below(3); copies > 0; --copies) {
          answers.emplace_back(ask.agent, all.answer_to(ask.probe));
        }
      }
      switch (below(5)) {
        case 0:
          all.come(below(agents));
          break;
        case 1:
          if (below(10) == 0) all.go(below(agents));
          break;
        case 2:
          all.wait();
          break;
        default:
          if (answers.empty()) break;
          const auto at =
              answers.begin() + below(static_cast<int>(answers.size()));
          const auto [agent, probed] = *at;
          if (below(2) == 0) answers.erase(at);
          all.take(answered(all.state, agent, probed, all.now));
      }
      ASSERT_LE(all.now.now, begin + 100s + (2 + 5 + 1 + 7 + 4 * 13) * 20s);
    }
    EXPECT_EQ(all.done, 1);
    EXPECT_FALSE(next_deadline(all.state));
    for (const auto& [agent, probed] : answers) {
      all.take(answered(all.state, agent, probed, all.now));
    }
    for (int agent = 0; agent < agents; ++agent) all.go(agent);
    EXPECT_EQ(all.done, 1);
  }
}

}  // namespace
}  // namespace catena::launcher
