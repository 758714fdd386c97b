#include "launcher/journal.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <sstream>
#include <vector>

#include "runtime/base/error.h"
#include "runtime/base/files.h"

namespace {
int synced = 0;
}  // namespace

// In the place of the C library's.
extern "C" int fsync(int descriptor) {
  ++synced;
  return static_cast<int>(::syscall(SYS_fsync, descriptor));
}

namespace catena::launcher {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

class JournalTest : public ::testing::Test {
 protected:
  JournalTest() {
    std::string name = (fs::temp_directory_path() / "journalXXXXXX").string();
    folder_ = ::mkdtemp(name.data());
  }
  ~JournalTest() override { fs::remove_all(folder_); }

  [[nodiscard]] fs::path path() const { return folder_ / "journal.jsonl"; }
  [[nodiscard]] std::vector<Json> lines() const {
    std::vector<Json> found;
    std::istringstream file(read_file(path()));
    for (std::string line; std::getline(file, line);) {
      found.push_back(Json::parse(line));
    }
    return found;
  }
  void move(Journal& journal, JobPhase phase) {
    state_.phase = phase;
    journal.moved(state_, {phase, state_.generation});
  }

  fs::path folder_;
  JobState state_{{.ranks = {{0}}}};
};

TEST_F(JournalTest, TellsAJobLineByLine) {
  Journal journal(path(), "a job");
  move(journal, JobPhase::kStarting);
  state_.generation = 1;
  state_.step = 7;
  journal.rank_ended({1, {.rank = 0, .process = 5, .signal = SIGSEGV}});
  state_.cause = Cause{.rank = 0, .code = 139, .text = "\xff died"};
  state_.exit_code = 139;
  move(journal, JobPhase::kFailed);
  const auto found = lines();
  ASSERT_EQ(found.size(), 4U);
  EXPECT_EQ(found[0]["state"], "NEW");
  EXPECT_EQ(found[0]["process"], ::getpid());
  EXPECT_EQ(found[1]["state"], "STARTING");
  EXPECT_EQ(found[2]["signal"], SIGSEGV);
  EXPECT_EQ(found[2]["generation"], 1);
  EXPECT_EQ(found[3]["state"], "FAILED");
  EXPECT_EQ(found[3]["step"], 7);
  EXPECT_EQ(found[3]["exit_code"], 139);
  EXPECT_EQ(found[3]["cause"]["code"], 139);
  for (std::size_t i = 0; i < found.size(); ++i) {
    EXPECT_EQ(found[i]["job"], "a job");
    EXPECT_EQ(found[i]["time"].get<std::string>().size(),
              std::string("2026-11-27T01:02:03.456Z").size());
    EXPECT_GE(found[i]["seconds"], found[i == 0 ? 0 : i - 1]["seconds"]);
  }
}

TEST_F(JournalTest, AnEndIsOnTheDiskAndIsTheLast) {
  Journal journal(path(), "a job");
  move(journal, JobPhase::kStarting);
  synced = 0;
  move(journal, JobPhase::kRunning);
  EXPECT_EQ(synced, 0);
  move(journal, JobPhase::kSucceeded);
  EXPECT_EQ(synced, 1);
  EXPECT_THROW(move(journal, JobPhase::kFailed), Error);
  EXPECT_THROW(journal.rank_ended({1, {}}), Error);
  EXPECT_EQ(lines().back()["state"], "SUCCEEDED");
}

TEST_F(JournalTest, ALineThatIsNotWholeIsCutByTheNextLauncher) {
  for (const std::size_t whole : {0U, 1U, 2U}) {
    fs::remove(path());
    for (std::size_t i = 0; i < whole; ++i) Journal(path(), "killed");
    const auto size = whole == 0 ? 0 : fs::file_size(path());
    Journal(path(), "torn");
    fs::resize_file(path(), whole == 0 ? 1 : fs::file_size(path()) - whole);
    ASSERT_GT(fs::file_size(path()), size);
    Journal(path(), "next");
    const auto found = lines();
    ASSERT_EQ(found.size(), whole + 1);
    EXPECT_EQ(found[whole]["job"], "next");
    EXPECT_EQ(found[whole]["state"], "NEW");
  }
}

/// So that a file cannot grow beyond this many bytes.
class Limit {
 public:
  explicit Limit(std::size_t bytes) {
    handler_ = std::signal(SIGXFSZ, SIG_IGN);
    ::getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit now{bytes, before_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &now);
  }
  ~Limit() {
    ::setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, handler_);
  }
  Limit(const Limit&) = delete;
  Limit& operator=(const Limit&) = delete;

 private:
  rlimit before_{};
  void (*handler_)(int) = nullptr;
};

TEST_F(JournalTest, WhatDoesNotFitOnTheDiskLeavesNoPart) {
  Journal journal(path(), "a job");
  const auto before = fs::file_size(path());
  for (const std::size_t room : {0U, 1U, 40U}) {
    const Limit limit(before + room);
    EXPECT_THROW(move(journal, JobPhase::kStarting), Error);
    EXPECT_EQ(fs::file_size(path()), before);
  }
  move(journal, JobPhase::kStarting);
  EXPECT_EQ(lines().size(), 2U);
}

TEST_F(JournalTest, AFolderThatIsNotThereIsNamed) {
  try {
    Journal journal(folder_ / "nowhere" / "journal.jsonl", "a job");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kIo);
    EXPECT_THAT(error.what(),
                ::testing::HasSubstr("nowhere/journal.jsonl: cannot be "
                                     "opened: No such file"));
  }
}

}  // namespace
}  // namespace catena::launcher
