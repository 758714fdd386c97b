// `catena dashboard`, `catena train --dashboard` and the dashboard of `catena
// launch`, with real processes; a shell script plays the trainer.

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <csignal>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "launcher/commands/train_dashboard.h"
#include "launcher/contract.h"
#include "launcher/monitor/monitor.h"
#include "runtime/base/error.h"
#include "runtime/base/files.h"
#include "tests/launcher/monitor/run_files.h"
#include "tests/launcher/program.h"
#include "tests/support/http_client.h"

namespace catena::launcher {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using Json = nlohmann::json;

/// Whether something answers at the text's "http://127.0.0.1:PORT/".
bool answers(const std::string& text) {
  const std::uint16_t port = port_in(text);
  return port != 0 && http_get(port, "/healthz") == "ok\n";
}

template <class Condition>
bool wait_for(const Condition& condition) {
  for (int i = 0; i < 6000; ++i) {
    if (condition()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return false;
}

class DashboardTest : public ::testing::Test {
 protected:
  [[nodiscard]] fs::path trainer() const { return files_.path() / "trainer"; }
  /// One that says nothing.
  [[nodiscard]] fs::path config() const {
    files_.append("x.toml", "");
    return files_.path() / "x.toml";
  }
  [[nodiscard]] std::vector<std::string> environment() const {
    return {fmt::format("{}={}", kTrainerVariable, trainer().string()),
            "CATENA_DASHBOARD", "CATENA_DASHBOARD_PORT", kControlVariable};
  }
  /// $RUN is the run's folder; `go` in it lets the trainer end.
  void trainer_does(const std::string& script) const {
    write_file_atomically(
        trainer(),
        fmt::format("#!/bin/sh\nRUN={}\n{}\n", files_.path().string(), script));
    fs::permissions(trainer(), fs::perms::owner_all);
  }
  void let_go() const { files_.append("go", ""); }

  RunFiles files_;
};

TEST_F(DashboardTest, ServesAFinishedRunUntilItIsAskedToEnd) {
  files_.write_run();
  const std::string said = (files_.path() / "said").string();
  Program program("/bin/sh",
                  {"sh", "-c",
                   fmt::format("exec {} dashboard {} > {}", CATENA_PROGRAM,
                               files_.path().string(), said)},
                  environment());
  ASSERT_TRUE(
      wait_for([&] { return fs::exists(said) && answers(read_file(said)); }));
  ::kill(program.process(), SIGTERM);
  EXPECT_EQ(program.wait().code, 0);
}

TEST_F(DashboardTest, WhatIsNoRunIsRefused) {
  const Outcome outcome =
      Program(CATENA_PROGRAM, {"catena", "dashboard", files_.path().string()},
              environment())
          .wait();
  EXPECT_EQ(outcome.code, kExitUsage);
  EXPECT_THAT(outcome.error, HasSubstr("no run is there"));
}

TEST_F(DashboardTest, ServesBesideATrainerAndEndsWithIt) {
  trainer_does(R"(
echo "$@" > $RUN/arguments
printf 'joined\nrun %s\nstep 1\n' $RUN > /proc/self/fd/$CATENA_CONTROL_FD
while [ ! -e $RUN/go ]; do sleep 0.01; done
exit 5)");
  const std::string said = (files_.path() / "said").string();
  Program program("/bin/sh",
                  {"sh", "-c",
                   fmt::format("exec {} train x.toml --dashboard=0 2> {}",
                               CATENA_PROGRAM, said)},
                  environment());
  ASSERT_TRUE(
      wait_for([&] { return fs::exists(said) && answers(read_file(said)); }));
  EXPECT_EQ(read_file(files_.path() / "arguments"),
            "train x.toml --dashboard=0\n");
  let_go();
  EXPECT_EQ(program.wait().code, 5);
  EXPECT_TRUE(wait_for([&] { return !answers(read_file(said)); }));
}

TEST_F(DashboardTest, APortThatIsTakenHoldsUpNoTrainer) {
  const Monitor taken(files_.path());
  trainer_does(R"(
printf 'run %s\n' $RUN > /proc/self/fd/$CATENA_CONTROL_FD
while [ ! -e $RUN/go ]; do sleep 0.01; done)");
  const std::string said = (files_.path() / "said").string();
  Program program("/bin/sh",
                  {"sh", "-c",
                   fmt::format("exec {} train x.toml --dashboard={} 2> {}",
                               CATENA_PROGRAM, taken.port(), said)},
                  environment());
  EXPECT_TRUE(wait_for([&] {
    return fs::exists(said) &&
           read_file(said).find("choose another port") != std::string::npos;
  }));
  let_go();
  EXPECT_EQ(program.wait().code, 0);
}

TEST_F(DashboardTest, APortThatIsNoneIsRefusedBeforeAnythingBegins) {
  trainer_does("touch $RUN/began");
  const Outcome outcome =
      Program(CATENA_PROGRAM, {"catena", "train", "x.toml", "--dashboard=x"},
              environment())
          .wait();
  EXPECT_EQ(outcome.code, kExitUsage);
  EXPECT_THAT(outcome.error, HasSubstr("--dashboard=x: a port is a number"));
  EXPECT_FALSE(fs::exists(files_.path() / "began"));
}

TEST_F(DashboardTest, ALaunchSaysWhereItsDashboardIs) {
  files_.append("run/config.toml", "[train]\nsteps = 5\n");
  trainer_does(R"(
if [ "$1" = begin ]; then
  echo "{\"run\": \"$RUN/run\", \"transport\": \"auto\", \"does_not_fit\": \"\"}"
  exit 0
fi
say() { echo "$1" > /proc/self/fd/$CATENA_CONTROL_FD; }
say joined
while [ ! -e $RUN/go ]; do sleep 0.01; done
say done)");
  const fs::path job = files_.path() / "run" / "job.json";
  Program program(CATENA_PROGRAM,
                  {"catena", "launch", "-n", "3", config().string()},
                  environment());
  const auto json = [&] {
    return Json::parse(fs::exists(job) ? read_file(job) : "{}", nullptr, false);
  };
  ASSERT_TRUE(wait_for([&] { return json().value("state", "") == "RUNNING"; }));
  EXPECT_TRUE(answers(json()["dashboard"].get<std::string>()));
  EXPECT_THAT(json()["rank_states"],
              ElementsAre("running", "running", "running"));
  let_go();
  const Outcome outcome = program.wait();
  EXPECT_EQ(outcome.code, 0);
  EXPECT_THAT(outcome.error, HasSubstr("dashboard at http://127.0.0.1:"));
  EXPECT_THAT(json()["rank_states"], ElementsAre("done", "done", "done"));
}

TEST_F(DashboardTest, NoneIsServedWhereNoneIsWanted) {
  trainer_does(R"(
if [ "$1" = begin ]; then
  mkdir -p $RUN/run
  echo "{\"run\": \"$RUN/run\", \"transport\": \"auto\", \"does_not_fit\": \"\"}"
  exit 0
fi
echo joined > /proc/self/fd/$CATENA_CONTROL_FD
echo done > /proc/self/fd/$CATENA_CONTROL_FD)");
  const Outcome outcome =
      Program(CATENA_PROGRAM,
              {"catena", "launch", "--no-dashboard", config().string()},
              environment())
          .wait();
  EXPECT_EQ(outcome.code, 0);
  EXPECT_THAT(outcome.error, Not(HasSubstr("dashboard")));
  EXPECT_TRUE(Json::parse(read_file(files_.path() / "run/job.json"))
                  .at("dashboard")
                  .is_null());
}

TEST(DashboardPlaceTest, IsTheFlagsOrTheVariablesOrAny) {
  const auto place = [](std::vector<std::string> words) -> std::string {
    const auto found = dashboard_place(words);
    return found ? fmt::format("{}:{}", found->address, found->port) : "none";
  };
  ::unsetenv("CATENA_DASHBOARD_PORT");
  ::unsetenv("CATENA_DASHBOARD_ADDRESS");
  EXPECT_EQ(place({"train", "x.toml"}), "none");
  EXPECT_EQ(place({"train", "--dashboards"}), "none");
  EXPECT_EQ(place({"train", "x.toml", "--dashboard"}), "127.0.0.1:0");
  EXPECT_EQ(place({"train", "--dashboard=65535", "x"}), "127.0.0.1:65535");
  EXPECT_EQ(place({"train", "--dashboard=0.0.0.0:7"}), "0.0.0.0:7");
  EXPECT_THROW(place({"--dashboard="}), Error);
  ::setenv("CATENA_DASHBOARD_PORT", "80", 1);
  EXPECT_EQ(place({"--dashboard"}), "127.0.0.1:80");
  EXPECT_EQ(place({"--dashboard=7"}), "127.0.0.1:7");
  EXPECT_EQ(place({"train"}), "none");
  ::setenv("CATENA_DASHBOARD_ADDRESS", "0.0.0.0", 1);
  EXPECT_EQ(place({"--dashboard"}), "0.0.0.0:80");
  ::setenv("CATENA_DASHBOARD_PORT", "eighty", 1);
  EXPECT_THROW(place({"--dashboard"}), Error);
  ::unsetenv("CATENA_DASHBOARD_PORT");
  ::unsetenv("CATENA_DASHBOARD_ADDRESS");
}

}  // namespace
}  // namespace catena::launcher
