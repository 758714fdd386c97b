#include "training/control_line.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <string>

#include "launcher/contract.h"

namespace catena {
namespace {

/// The line is the process's own: each case has one that ends with it.
class ControlLineDeathTest : public testing::Test {
 protected:
  /// Opens the line; its other end.
  static int open() {
    std::array<int, 2> ends{};
    if (::pipe(ends.data()) != 0) std::abort();
    ::setenv(kControlVariable, fmt::format("{}", ends[1]).c_str(), 1);
    control_line::open();
    return ends[0];
  }
  static std::string heard(int pipe) {
    std::array<char, 4096> text{};
    const ssize_t count = ::read(pipe, text.data(), text.size());
    return {text.data(), static_cast<std::size_t>(count > 0 ? count : 0)};
  }
};

TEST_F(ControlLineDeathTest, SaysWhatItDoes) {
  const auto live = [] {
    const int pipe = open();
    if (!control_line::is_open() || std::getenv(kControlVariable) != nullptr) {
      std::_Exit(1);
    }
    control_line::say_section(kSectionLoad);
    control_line::say_section(kSectionLoad);
    control_line::say_step(3);
    control_line::say_step(4);  // too soon after it
    control_line::say((kSaidRun + std::string("/a b")).c_str());
    const char* expected = "section start\nsection load\nstep 3\nrun /a b\n";
    std::_Exit(heard(pipe) == expected ? 0 : 2);
  };
  EXPECT_EXIT(live(), testing::ExitedWithCode(0), "");
}

TEST_F(ControlLineDeathTest, NobodyWhoReadsEndsNoRank) {
  const auto live = [] {
    ::close(open());
    control_line::say(kSaidJoined);
    control_line::say_section(kSectionLoad);
    control_line::say_step(1);
    std::_Exit(control_line::is_open() ? 1 : 0);
  };
  EXPECT_EXIT(live(), testing::ExitedWithCode(0), "");
}

TEST_F(ControlLineDeathTest, WithoutAPipeNothingIsSaid) {
  const auto live = [] {
    ::unsetenv(kControlVariable);
    control_line::open();
    control_line::say(kSaidJoined);
    std::_Exit(control_line::is_open() ? 1 : 0);
  };
  EXPECT_EXIT(live(), testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace catena
