#pragma once

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <string>
#include <vector>

#include "launcher/job_state.h"

namespace catena::launcher {

/// Two agents of two ranks each. Actions become texts: "0<start 1" is "start
/// generation 1" to agent 0; what is said to people is kept apart.
class JobStateTest : public ::testing::Test {
 protected:
  using Texts = std::vector<std::string>;

  Texts texts(const JobActions& actions) {
    Texts result;
    for (const JobAction& action : actions) {
      if (const auto* say = std::get_if<Say>(&action))
        said_ += say->text + "\n";
      if (std::holds_alternative<Finish>(action)) result.emplace_back("finish");
      if (const auto* lost = std::get_if<ReplaceAgent>(&action)) {
        result.push_back(fmt::format("replace {}", lost->agent));
      }
      const auto* send = std::get_if<SendCommand>(&action);
      if (send == nullptr) continue;
      const char* word = std::visit(
          Overloaded{[](const OpenRendezvous&) { return "open"; },
                     [](const StartGeneration&) { return "start"; },
                     [](const Stop& s) { return s.at_once ? "kill" : "stop"; },
                     [](const Ping&) { return "ping"; },
                     [](const Save&) { return "save"; },
                     [](const Inspect&) { return "inspect"; }},
          send->command.body);
      result.push_back(
          fmt::format("{}<{} {}", send->agent, word, send->command.generation));
    }
    return result;
  }
  Texts hear(int agent, int generation, auto body) {
    return texts(receive(state_, {agent, generation, body}, now_));
  }
  Texts exited(int generation, RankEnding ending) {
    return hear(ending.rank / 2, generation, RankExited{ending});
  }
  Texts empty(int agent, int generation) {
    return hear(agent, generation, GenerationEmpty{});
  }
  Texts later(Duration duration) {
    now_ += duration;
    return texts(tick(state_, now_));
  }
  Texts asked(int signal) {
    return texts(stop_requested(state_, signal, now_));
  }

  void start() {
    static_cast<void>(texts(begin(state_, now_)));
    hear(0, 0, AgentReady{});
    hear(1, 0, AgentReady{});
    hear(0, 1, RendezvousOpen{"h:1"});
  }
  void run() {
    start();
    for (int rank = 0; rank < 4; ++rank) {
      hear(rank / 2, 1, RankJoined{rank});
    }
    ASSERT_EQ(state_.phase, JobPhase::kRunning);
  }
  static RankEnding killed(int rank) {
    return {.rank = rank, .process = 1, .signal = SIGKILL, .step = 5};
  }
  static RankEnding left(int rank, int code) {
    return {
        .rank = rank, .process = 1, .code = code, .done = code == 0, .step = 5};
  }
  void expect_end(JobPhase phase, int code) {
    EXPECT_STREQ(name_of(state_.phase), name_of(phase));
    EXPECT_EQ(state_.exit_code, code);
    EXPECT_FALSE(next_deadline(state_).has_value());
    // An end is final.
    EXPECT_THAT(asked(SIGTERM), ::testing::IsEmpty());
    EXPECT_THAT(empty(0, state_.generation), ::testing::IsEmpty());
    EXPECT_THAT(later(std::chrono::seconds(10000)), ::testing::IsEmpty());
    EXPECT_EQ(state_.phase, phase);
  }

  JobState state_{
      {.ranks = {{0, 1}, {2, 3}}, .grace = std::chrono::seconds(5)}};
  Time now_ = Time(std::chrono::seconds(1000));
  std::string said_;
};

}  // namespace catena::launcher
