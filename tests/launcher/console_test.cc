#include "launcher/console.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <string>

#include "runtime/base/log.h"

namespace catena::launcher {
namespace {

namespace fs = std::filesystem;
using ::testing::internal::CaptureStderr;
using ::testing::internal::GetCapturedStderr;

class ConsoleTest : public testing::Test {
 protected:
  ConsoleTest() {
    std::string name = testing::TempDir() + "consoleXXXXXX";
    folder_ = ::mkdtemp(name.data());
    log_ = folder_ / "log";
  }
  ~ConsoleTest() override { fs::remove_all(folder_); }

  void append(const std::string& text) const {
    std::ofstream(log_, std::ios::app) << text;
  }

  fs::path folder_, log_;
};

TEST_F(ConsoleTest, WholeLinesAreShownThatCameSinceItBegan) {
  append("before\n");
  Console console(log_);
  CaptureStderr();
  EXPECT_FALSE(console.copy());
  append("one\ntwo\nthr");
  EXPECT_TRUE(console.copy());
  EXPECT_FALSE(console.copy());
  append("ee\n");
  EXPECT_TRUE(console.copy());
  EXPECT_EQ(GetCapturedStderr(), "one\ntwo\nthree\n");
}

TEST_F(ConsoleTest, ALineThatDoesNotEndIsShownInPieces) {
  Console console(log_);
  append(std::string(200'000, 'x'));
  CaptureStderr();
  for (const bool more : {true, true, true, false}) {
    EXPECT_EQ(console.copy(), more);
  }
  EXPECT_EQ(GetCapturedStderr(), std::string(196'608, 'x'));
  append("\n");
  CaptureStderr();
  EXPECT_TRUE(console.copy());
  EXPECT_EQ(GetCapturedStderr(), std::string(3'392, 'x') + "\n");
}

// Ctrl-S, `less`, an ssh that stalls: else agents and launcher would miss each
// other.
TEST_F(ConsoleTest, NobodyWaitsWhereNobodyReadsAndNothingIsLost) {
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe(ends.data()), 0);
  const int before = ::dup(STDERR_FILENO);
  ASSERT_EQ(::dup2(ends[1], STDERR_FILENO), STDERR_FILENO);
  std::string all, seen;
  for (int i = 0; i < 300'000; ++i) all += fmt::format("line {}\n", i);
  Console console(log_);
  append(all);
  {
    const log::Background background;
    const auto begin = std::chrono::steady_clock::now();
    int pieces = 0;
    while (console.copy()) ++pieces;
    for (int i = 0; i < 10'000; ++i) log::info("nobody waits for this {}", i);
    EXPECT_LT(std::chrono::steady_clock::now() - begin,
              std::chrono::seconds(30));
    EXPECT_GE(pieces, 15);
    ::fcntl(ends[0], F_SETFL, O_NONBLOCK);
    std::array<char, 65536> part;
    while (!seen.ends_with("line 299999\n") &&
           std::chrono::steady_clock::now() <
               begin + std::chrono::seconds(60)) {
      console.copy();
      const ssize_t count = ::read(ends[0], part.data(), part.size());
      if (count < 0) continue;
      seen.append(part.data(), static_cast<std::size_t>(count));
    }
  }
  ::dup2(before, STDERR_FILENO);
  for (const int end : {before, ends[0], ends[1]}) ::close(end);
  std::string lines;
  for (std::size_t at = 0; at < seen.size();) {
    const std::size_t end = seen.find('\n', at) + 1;
    const std::string line = seen.substr(at, end - at);
    if (line.starts_with("line ")) lines += line;
    at = end;
  }
  EXPECT_EQ(lines.size(), all.size());
  EXPECT_TRUE(lines == all);
}

}  // namespace
}  // namespace catena::launcher
