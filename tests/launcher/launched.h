#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <random>
#include <sstream>
#include <thread>

#include "launcher/contract.h"
#include "runtime/base/error.h"
#include "runtime/base/files.h"
#include "tests/launcher/program.h"
#include "tests/support/json.h"

namespace catena::launcher {

/// A folder with a trainer that a shell script plays, and launchers of it.
class Launched : public ::testing::Test {
 protected:
  Launched() {
    std::string name =
        (std::filesystem::temp_directory_path() / "launchXXXXXX").string();
    folder_ = ::mkdtemp(name.data());
    configure("");
  }
  ~Launched() override { std::filesystem::remove_all(folder_); }

  /// What every rank does; `say WORD` speaks on its control pipe, $RANK is its
  /// number and $RUN the run's folder. `needs`: more of what `begin` prints.
  void ranks_do(const std::string& script,
                const std::string& needs = "") const {
    write_file_atomically(trainer(),
                          fmt::format(R"(#!/bin/sh
RUN={0}/run
if [ "$1" = begin ]; then
  mkdir -p $RUN
  echo '{{"run": "{0}/run", "transport": "auto", "does_not_fit": ""{2}}}'
  exit 0
fi
RANK=${{CATENA_RANK:-0}}
say() {{ echo "$1" > /proc/self/fd/$CATENA_CONTROL_FD; }}
{1}
)",
                                      folder_.string(), script, needs));
    std::filesystem::permissions(trainer(), std::filesystem::perms::owner_all);
  }
  /// What the configuration says.
  void configure(const std::string& text) const {
    write_file_atomically(config(), text);
  }
  [[nodiscard]] std::filesystem::path config() const {
    return folder_ / "x.toml";
  }
  [[nodiscard]] std::filesystem::path trainer() const {
    return folder_ / "trainer";
  }
  [[nodiscard]] std::filesystem::path run() const { return folder_ / "run"; }

  [[nodiscard]] Program start(std::vector<std::string> more,
                              std::vector<std::string> environment = {}) const {
    more.insert(more.begin(), {"catena", "launch"});
    more.emplace_back(config().string());
    environment.push_back(
        fmt::format("{}={}", kTrainerVariable, trainer().string()));
    return {CATENA_PROGRAM, more, environment};
  }
  [[nodiscard]] Outcome launch(
      const std::vector<std::string>& more,
      const std::vector<std::string>& environment = {}) const {
    return start(more, environment).wait();
  }
  [[nodiscard]] nlohmann::json result() const {
    return json_of(read_file(run() / "job.json"));
  }
  void wait_for(const char* name) const {
    for (int i = 0; i < 6000 && !std::filesystem::exists(run() / name); ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    ASSERT_TRUE(std::filesystem::exists(run() / name)) << name;
  }
  /// $PPID of a rank is its agent: run/agents has a line "AGENT RANK" each.
  static std::string note_agent() {
    return "echo $$ >> $RUN/pids; echo \"$PPID $RANK\" >> $RUN/agents\n";
  }
  [[nodiscard]] int agent_of(int rank) const {
    std::istringstream file(read_file(run() / "agents"));
    int agent = 0, process = 0, of = 0;
    while (file >> process >> of) {
      if (of == rank) agent = process;
    }
    return agent;
  }
  /// --env and --set, `count` of each, of bytes that a shell, a list or a wire
  /// could make something else of.
  static std::vector<std::string> random_flags(int count) {
    std::mt19937 random(20);
    std::uniform_int_distribution<int> length(1, 255), byte(1, 255);
    std::vector<std::string> flags = {
        "--set", "a=$(exit 3) `exit 3` '\"; exit 3\n", "--env", "EMPTY="};
    for (int i = 0; i < count; ++i) {
      std::string bytes(static_cast<std::size_t>(length(random)), '\0');
      for (char& each : bytes) each = static_cast<char>(byte(random));
      flags.insert(flags.end(), {"--env", fmt::format("E{}={}", i, bytes),
                                 "--set", fmt::format("s{}={}", i, bytes)});
    }
    return flags;
  }
  /// For ranks whose flags are looked at.
  static std::string keep_what_came() {
    return "cat /proc/$$/environ > $RUN/environment-$RANK\n"
           "cat /proc/$$/cmdline > $RUN/arguments-$RANK\n";
  }
  void expect_came(const std::vector<std::string>& flags, int rank) const {
    const std::string environment =
        read_file(run() / fmt::format("environment-{}", rank));
    const std::string arguments =
        read_file(run() / fmt::format("arguments-{}", rank));
    for (std::size_t i = 1; i < flags.size(); i += 2) {
      EXPECT_THAT(flags[i - 1] == "--env" ? environment : arguments,
                  ::testing::HasSubstr('\0' + flags[i] + '\0'));
    }
  }
  /// A program that is found before the real one: a shell script. Returns by
  /// what environment.
  [[nodiscard]] std::string program_does(const char* name,
                                         const std::string& script) const {
    write_file_atomically(folder_ / name, "#!/bin/sh\n" + script);
    std::filesystem::permissions(folder_ / name,
                                 std::filesystem::perms::owner_all);
    return fmt::format("PATH={}:{}", folder_.string(), std::getenv("PATH"));
  }
  /// The processes whose numbers are in run/pids.
  void expect_none_left() const {
    std::istringstream file(read_file(run() / "pids"));
    for (int process = 0; file >> process;) {
      bool gone = false;
      for (int i = 0; i < 500 && !gone; ++i) {
        gone = ::kill(process, 0) != 0;
        if (!gone) std::this_thread::sleep_for(std::chrono::milliseconds(10));
      }
      EXPECT_TRUE(gone) << process;
    }
  }

  std::filesystem::path folder_;
};

}  // namespace catena::launcher
