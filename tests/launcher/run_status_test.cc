#include "launcher/run_status.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <fstream>
#include <nlohmann/json.hpp>

#include "runtime/base/error.h"
#include "runtime/base/files.h"

namespace catena::launcher {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using Json = nlohmann::json;

class RunStatusTest : public ::testing::Test {
 protected:
  RunStatusTest() {
    std::string name = (fs::temp_directory_path() / "statusXXXXXX").string();
    run_ = ::mkdtemp(name.data());
  }
  ~RunStatusTest() override { fs::remove_all(run_); }

  void append(const fs::path& file, const std::string& text) const {
    fs::create_directories((run_ / file).parent_path());
    std::ofstream(run_ / file, std::ios::app) << text;
  }
  void job(const Json& changes) const {
    Json json = {{"schema", 1},
                 {"job", "abc"},
                 {"ranks", 2},
                 {"host", "elsewhere"},
                 {"generation", 1},
                 {"state", "RUNNING"},
                 {"seconds", 2.5},
                 {"exit_code", nullptr},
                 {"restarts", Json::array()}};
    json.update(changes);
    write_file_atomically(run_ / "job.json", json.dump());
  }
  [[nodiscard]] static std::string step(int number, double loss) {
    return fmt::format(
        R"({{"catena_step":{},"catena_loss":{{"train":{}}},)"
        R"("catena_tokens_per_second":9800.0,)"
        R"("catena_step_duration_seconds":2.0,)"
        R"("catena_expert_load_max_to_mean_ratio":[[1.2,1.6],[1.1,1.0]],)"
        R"("catena_exchange_seconds":{{"plan":{{"exposed":0.1,)"
        R"("overlapped":0.5}},"combine":{{"exposed":0.3,"overlapped":0}}}}}})"
        "\n",
        number, loss);
  }
  [[nodiscard]] static std::string own_host() {
    std::array<char, 256> name{};
    ::gethostname(name.data(), name.size() - 1);
    return name.data();
  }

  fs::path run_;
};

using GrowingFileTest = RunStatusTest;

TEST_F(GrowingFileTest, GivesWholeLinesAsTheyCome) {
  GrowingFile file(run_ / "log");
  EXPECT_THAT(file.lines(), IsEmpty());
  append("log", "a\nb");
  EXPECT_THAT(file.lines(), ElementsAre("a"));
  EXPECT_THAT(file.lines(), IsEmpty());
  append("log", "c\n\nd\n");
  EXPECT_THAT(file.lines(), ElementsAre("bc", "", "d"));
}

TEST_F(GrowingFileTest, BeginsAgainWhereItIsCutOrReplaced) {
  GrowingFile file(run_ / "log");
  append("log", "first\nlonger line\n");
  EXPECT_EQ(file.lines().size(), 2U);
  fs::resize_file(run_ / "log", 0);
  append("log", "new\n");
  EXPECT_THAT(file.lines(), ElementsAre("new"));
  append("log", "half");
  EXPECT_THAT(file.lines(), IsEmpty());
  fs::rename(run_ / "log", run_ / "log.1");
  append("log", "another, and longer than what was there\n");
  EXPECT_THAT(file.lines(),
              ElementsAre("another, and longer than what was there"));
}

TEST_F(GrowingFileTest, OfALongFileTheEndIsRead) {
  append("log", "0123456789\n0123456789\nlast\n");
  EXPECT_THAT(GrowingFile(run_ / "log", 8).lines(), ElementsAre("last"));
  EXPECT_THAT(GrowingFile(run_ / "log", 3).lines(), IsEmpty());
}

using MetricsTailTest = RunStatusTest;

TEST_F(MetricsTailTest, AStepTakenAgainReplacesWhatCameAfterIt) {
  MetricsTail tail(run_ / "metrics.jsonl");
  append("metrics.jsonl", step(1, 5) + step(2, 4) + step(3, 3));
  tail.update();
  EXPECT_EQ(tail.losses().size(), 3U);
  append("metrics.jsonl", step(2, 4.5) + "{broken\n[]\n");
  append("metrics.jsonl",
         R"({"catena_step":2,"catena_event":"step_skipped","reason":"spike"})"
         "\n");
  tail.update();
  ASSERT_EQ(tail.losses().size(), 2U);
  EXPECT_EQ(tail.losses()[1].loss, 4.5);
  EXPECT_THAT(tail.events(), ElementsAre("step 2: step_skipped, spike"));
  const StepMetrics& newest = *tail.newest();
  EXPECT_EQ(newest.step, 2);
  EXPECT_EQ(newest.imbalance, 1.6);
  EXPECT_DOUBLE_EQ(*newest.waits, 0.2);
}

TEST_F(RunStatusTest, IsReadFromTheFolder) {
  job({{"restarts", {{{"rank", 1}, {"text", "was killed by signal 9"}}}},
       {"generation", 2}});
  append("metrics.jsonl", step(7, 3.25));
  append("ranks/1/metrics.jsonl", step(6, 3.5));
  append("checkpoints/step-000004/MANIFEST.json", "{}");
  const RunStatus status = StatusReader(run_).read();
  EXPECT_EQ(status.state, "RUNNING");
  EXPECT_FALSE(status.ended);
  EXPECT_EQ(status.generation, 2);
  EXPECT_EQ(status.restarts, 1);
  EXPECT_EQ(status.checkpoint_step, 4);
  ASSERT_EQ(status.ranks.size(), 2U);
  EXPECT_EQ(status.ranks[0].newest->step, 7);
  EXPECT_EQ(status.ranks[1].newest->step, 6);
  EXPECT_EQ(status.ranks[1].restarts, 1);
  EXPECT_EQ(status.ranks[1].state, "running");
  EXPECT_EQ(status.ranks[1].last_error, "was killed by signal 9");
  EXPECT_THAT(status_text(status),
              ::testing::AllOf(HasSubstr("RUNNING, generation 2, 1 restart\n"),
                               HasSubstr("process     on elsewhere\n"),
                               HasSubstr("checkpoint  step 4\n"),
                               HasSubstr("9.8k    20%")));
  const Json json = Json::parse(status_json(status));
  EXPECT_EQ(json["ranks"][0]["loss"], 3.25);
  EXPECT_EQ(json["process"], nullptr);
}

TEST_F(RunStatusTest, AsManyRanksAreListedAsThereAre) {
  for (const int ranks : {1, 2, 3, 4, 7, 8}) {
    job({{"ranks", ranks}});
    const RunStatus status = StatusReader(run_).read();
    EXPECT_EQ(status.ranks.size(), static_cast<std::size_t>(ranks));
    EXPECT_EQ(rank_table(status).size(), status.ranks.size() + 1);
  }
}

TEST_F(RunStatusTest, AJobOfThisMachineWithoutItsLauncherIsLost) {
  job({{"host", own_host()}});
  append("launcher.lock", fmt::format("{}\n", ::getpid()));
  const RunStatus status = StatusReader(run_).read();
  EXPECT_EQ(status.state, "LOST");
  EXPECT_TRUE(status.ended);
  EXPECT_EQ(status.ranks[0].state, "ended");
}

TEST_F(RunStatusTest, ARunWithoutALauncherIsRead) {
  append("config.toml", "");
  EXPECT_EQ(StatusReader(run_).read().state, "LOST");
  {
    const FileLock lock(run_ / "lock");
    const RunStatus status = StatusReader(run_).read();
    EXPECT_EQ(status.state, "RUNNING");
    EXPECT_EQ(status.process, ::getpid());
    EXPECT_EQ(status.ranks.size(), 1U);
  }
  append("ranks/1/metrics.jsonl", step(1, 2));
  write_file_atomically(run_ / "result.json",
                        R"({"state": "failed", "error": "no disk",
                            "seconds": 3.5})");
  const RunStatus status = StatusReader(run_).read();
  EXPECT_EQ(status.state, "FAILED");
  EXPECT_EQ(status.last_error, "no disk");
  EXPECT_EQ(status.ranks.size(), 2U);
}

TEST_F(RunStatusTest, DamagedFilesAreNoNews) {
  write_file_atomically(run_ / "job.json",
                        "{\"state\": 3, \"ranks\": \"x\", "
                        "\"restarts\": [1, {}]}");
  append("metrics.jsonl", std::string("\0\xff\n{}\n", 6));
  const RunStatus status = StatusReader(run_).read();
  EXPECT_EQ(status.ranks.size(), 1U);
  EXPECT_FALSE(status_json(status).empty());
}

TEST_F(RunStatusTest, WhatIsNoRunIsRefused) {
  try {
    (void)find_run((run_ / "none").string());
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kUsage);
    EXPECT_THAT(error.what(), HasSubstr("neither job.json nor config.toml"));
  }
}

TEST_F(RunStatusTest, WithoutANameTheNewestRunIsTaken) {
  append("runs/a/job.json", "{}");
  append("runs/b/config.toml", "");
  append("runs/cache/x", "");
  const auto now = fs::file_time_type::clock::now();
  fs::last_write_time(run_ / "runs/a/job.json", now - std::chrono::hours(1));
  const fs::path before = fs::current_path();
  fs::current_path(run_);
  const fs::path first = find_run("");
  append("runs/a/metrics.jsonl", "");
  fs::last_write_time(run_ / "runs/a/metrics.jsonl",
                      now + std::chrono::hours(1));
  const fs::path second = find_run("");
  fs::current_path(before);
  EXPECT_EQ(first, fs::path("runs/b"));
  EXPECT_EQ(second, fs::path("runs/a"));
}

using LockHolderTest = RunStatusTest;

TEST_F(LockHolderTest, IsTheProcessThatHasTheFileOpen) {
  const fs::path path = run_ / "lock";
  EXPECT_FALSE(LockHolder::find(path));
  {
    const FileLock lock(path);
    ASSERT_TRUE(lock.held());
    const auto holder = LockHolder::find(path);
    ASSERT_TRUE(holder);
    EXPECT_EQ(holder->process(), ::getpid());
    EXPECT_FALSE(holder->wait(std::chrono::milliseconds(1)));
    // One that does not get it leaves the name of the one that has it.
    EXPECT_FALSE(FileLock(path).held());
    EXPECT_TRUE(LockHolder::find(path));
  }
  EXPECT_FALSE(LockHolder::find(path));
}

TEST_F(LockHolderTest, NobodyElseIsTakenForIt) {
  for (const char* text : {"1\n", "0", "-1", "", "x", "99999999999"}) {
    write_file_atomically(run_ / "lock", text);
    EXPECT_FALSE(LockHolder::find(run_ / "lock")) << text;
  }
  // This process is there, and has another file open.
  const FileLock other(run_ / "other");
  write_file_atomically(run_ / "lock", fmt::format("{}\n", ::getpid()));
  EXPECT_FALSE(LockHolder::find(run_ / "lock"));
  EXPECT_FALSE(LockHolder::find(run_));
}

TEST_F(LockHolderTest, IsSignalledAndWaitedFor) {
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe(ends.data()), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    const FileLock lock(run_ / "lock");
    if (::write(ends[1], "x", 1) != 1) ::_exit(1);
    for (;;) ::pause();
  }
  char byte = 0;
  ASSERT_EQ(::read(ends[0], &byte, 1), 1);
  const auto holder = LockHolder::find(run_ / "lock");
  ASSERT_TRUE(holder);
  EXPECT_EQ(holder->process(), child);
  holder->signal(SIGTERM);
  EXPECT_TRUE(holder->wait(std::chrono::seconds(60)));
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_EQ(WTERMSIG(status), SIGTERM);
  EXPECT_NO_THROW(holder->signal(SIGTERM));
  EXPECT_FALSE(LockHolder::find(run_ / "lock"));
}

}  // namespace
}  // namespace catena::launcher
