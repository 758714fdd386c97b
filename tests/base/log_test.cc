#include "runtime/base/log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <sstream>
#include <thread>
#include <vector>

#include "runtime/base/error.h"
#include "runtime/base/files.h"

namespace catena {
namespace {

using ::testing::internal::CaptureStderr;
using ::testing::internal::GetCapturedStderr;

class LogTest : public ::testing::Test {
 protected:
  LogTest() { log::set_color("never"); }
  ~LogTest() override {
    log::set_prefix("");
    log::set_color("auto");
  }
};

TEST_F(LogTest, LinesCarryLevelAndPrefix) {
  CaptureStderr();
  log::info("step {}", 3);
  log::set_prefix("rank 3: ");
  log::warning("slow");
  log::error("broken {{}}");
  EXPECT_EQ(GetCapturedStderr(),
            "step 3\nrank 3: warning: slow\nrank 3: error: broken {}\n");
}

TEST_F(LogTest, ProgressIsALineWhereThereIsNoTerminal) {
  if (log::terminal()) GTEST_SKIP() << "standard error is a terminal";
  CaptureStderr();
  log::progress("step 1");
  log::progress("");
  log::info("done");
  EXPECT_EQ(GetCapturedStderr(), "step 1\ndone\n");
}

TEST_F(LogTest, ColorFollowsTheChoice) {
  log::set_color("always");
  EXPECT_TRUE(log::colored());
  CaptureStderr();
  log::error("broken");
  EXPECT_EQ(GetCapturedStderr(), "\033[31merror: broken\033[0m\n");
  log::set_color("never");
  EXPECT_FALSE(log::colored());
  EXPECT_THROW(log::set_color("sometimes"), Error);
}

TEST_F(LogTest, LinesOfThreadsStayWhole) {
  CaptureStderr();
  std::vector<std::thread> threads;
  for (int thread = 0; thread < 4; ++thread) {
    threads.emplace_back([thread] {
      for (int i = 0; i < 200; ++i) log::info("thread {} line {}", thread, i);
    });
  }
  for (std::thread& thread : threads) thread.join();
  std::istringstream lines(GetCapturedStderr());
  std::vector<int> next(4, 0);
  int thread = 0, number = 0, count = 0;
  for (std::string line; std::getline(lines, line); ++count) {
    ASSERT_EQ(std::sscanf(line.c_str(), "thread %d line %d", &thread, &number),
              2);
    ASSERT_EQ(line, fmt::format("thread {} line {}", thread, number));
    EXPECT_EQ(number, next[static_cast<std::size_t>(thread)]++);
  }
  EXPECT_EQ(count, 800);
}

// Last of this program: the file stays open.
TEST(LogZFileTest, LinesGoToTheFileWithATime) {
  const auto folder = std::filesystem::temp_directory_path();
  EXPECT_THROW(log::open_file("/proc/no/such.log"), Error);
  const auto path = folder / fmt::format("log_test.{}.log", ::getpid());
  CaptureStderr();
  log::open_file(path);
  log::warning("slow");
  EXPECT_EQ(GetCapturedStderr(), "warning: slow\n");
  const std::string content = read_file(path);
  std::filesystem::remove(path);
  EXPECT_THAT(content, ::testing::MatchesRegex(
                           "....-..-..T..:..:..[.]... warning slow\n"));
}

}  // namespace
}  // namespace catena
