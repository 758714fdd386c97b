#include "training/run_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <mutex>
#include <set>
#include <thread>
#include <vector>

#include "runtime/base/files.h"

namespace catena {
namespace {

namespace fs = std::filesystem;

class RunFolderTest : public testing::Test {
 protected:
  RunFolderTest()
      : folder_(fs::path(testing::TempDir()) /
                fmt::format("run-folder-{}-{}", ::getpid(), ++count_)) {}
  ~RunFolderTest() override { fs::remove_all(folder_); }

  std::string create() const {
    return RunFolder::create(wanted()).path.filename().string();
  }
  [[nodiscard]] std::string latest() const {
    const auto run = RunFolder::latest(wanted());
    return run.has_value() ? run->path.filename().string() : "none";
  }
  [[nodiscard]] fs::path wanted() const { return folder_ / "run"; }

  static inline int count_ = 0;
  fs::path folder_;
};

TEST_F(RunFolderTest, TheHighestNumberIsTheLatest) {
  EXPECT_EQ(latest(), "none");
  EXPECT_EQ(create(), "run");
  EXPECT_EQ(create(), "run-2");
  EXPECT_EQ(create(), "run-3");
  EXPECT_EQ(latest(), "run-3");
  fs::remove_all(folder_ / "run-2");
  EXPECT_EQ(latest(), "run-3");
  EXPECT_EQ(create(), "run-4");
  EXPECT_EQ(latest(), "run-4");
  for (const char* removed : {"run", "run-3", "run-4"}) {
    fs::remove_all(folder_ / removed);
  }
  EXPECT_EQ(latest(), "none");
  fs::create_directory(folder_ / "run-2");
  EXPECT_EQ(latest(), "run-2");
  EXPECT_EQ(create(), "run-3");
  // As numbers, not as texts.
  fs::create_directory(folder_ / "run-10");
  EXPECT_EQ(latest(), "run-10");
}

TEST_F(RunFolderTest, OtherNamesAreOfNoRun) {
  for (const char* name : {"run-0", "run-1", "run-02", "run--2", "run-2x",
                           "run-99999999999999999999", "run2", "runs-7"}) {
    fs::create_directories(folder_ / name);
  }
  write_file_atomically(folder_ / "run-5", "a file");
  EXPECT_EQ(latest(), "none");
  EXPECT_EQ(create(), "run");
  EXPECT_EQ(latest(), "run");
}

// run.folder may itself end in a number, such as "run-64".
TEST_F(RunFolderTest, ANumberedRunOfAnotherFolderIsPassedOver) {
  EXPECT_EQ(create(), "run");
  const auto say = [&](const char* run, const std::string& folder) {
    write_file_atomically(folder_ / run / "config.toml",
                          "[run]\nfolder = \"" + folder + "\"\n");
  };
  say("run-64", "runs/run-64/");
  EXPECT_EQ(latest(), "run");
  EXPECT_EQ(create(), "run-2");
  say("run-2", "elsewhere/run");
  EXPECT_EQ(latest(), "run-2");
  EXPECT_EQ(RunFolder::latest(folder_ / "run-64")->path, folder_ / "run-64");
}

TEST_F(RunFolderTest, ASlashAtTheEndChangesNothing) {
  const fs::path wanted = folder_ / "run" / "";
  EXPECT_EQ(RunFolder::create(wanted).path, folder_ / "run");
  EXPECT_EQ(RunFolder::create(wanted).path, folder_ / "run-2");
  EXPECT_EQ(RunFolder::latest(wanted)->path, folder_ / "run-2");
}

TEST_F(RunFolderTest, TwoRunsNeverShareAFolder) {
  std::mutex mutex;
  std::multiset<fs::path> made;
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < 8; ++i) {
      threads.emplace_back([&] {
        for (int k = 0; k < 10; ++k) {
          const fs::path path = RunFolder::create(wanted()).path;
          const std::lock_guard lock(mutex);
          made.insert(path);
        }
      });
    }
  }
  EXPECT_EQ(made.size(), 80U);
  EXPECT_EQ(std::set<fs::path>(made.begin(), made.end()).size(), 80U);
  EXPECT_EQ(latest(), "run-80");
}

}  // namespace
}  // namespace catena
