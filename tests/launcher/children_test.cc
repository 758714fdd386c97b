#include "launcher/children.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <boost/asio/io_context.hpp>
#include <chrono>
#include <csignal>
#include <vector>

namespace catena::launcher {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::ElementsAre;
using ::testing::UnorderedElementsAre;

/// As ranks and agents are started: it leads a group.
int start(const char* script) {
  const int process = ::fork();
  if (process == 0) {
    ::setpgid(0, 0);
    ::execl("/bin/sh", "sh", "-c", script, nullptr);
    ::_exit(127);
  }
  ::setpgid(process, process);
  return process;
}

/// It is still there to be reaped then.
void wait_for_end(int process) {
  siginfo_t ended{};
  ASSERT_EQ(
      ::waitid(P_PID, static_cast<id_t>(process), &ended, WEXITED | WNOWAIT),
      0);
}

bool lives(int process) { return ::kill(process, 0) == 0; }

class ChildrenTest : public ::testing::Test {
 protected:
  int watch(const char* script) {
    const int process = start(script);
    children_.watch(process, [this](int status) { told_.push_back(status); });
    return process;
  }
  /// Until all that are watched have ended, and been told of.
  void run() {
    const auto until = std::chrono::steady_clock::now() + seconds(60);
    while (!children_.empty() && std::chrono::steady_clock::now() < until) {
      context_.run_one_for(milliseconds(100));
    }
    EXPECT_TRUE(children_.empty());
  }

  boost::asio::io_context context_;
  Children children_{context_};
  std::vector<int> told_;
};

TEST_F(ChildrenTest, EndsAreToldOnceAsWaitpidSaysThem) {
  watch("exit 3");
  run();
  ASSERT_EQ(told_.size(), 1U);
  EXPECT_TRUE(WIFEXITED(told_[0]));
  EXPECT_EQ(WEXITSTATUS(told_[0]), 3);
  watch("kill -9 $$");
  run();
  ASSERT_EQ(told_.size(), 2U);
  EXPECT_TRUE(WIFSIGNALED(told_[1]));
  EXPECT_EQ(WTERMSIG(told_[1]), SIGKILL);
}

TEST_F(ChildrenTest, NoneIsOverseenWhereSeveralEndAtOnce) {
  for (const char* script : {"exit 1", "exit 2", "exit 3", "exit 4"}) {
    wait_for_end(watch(script));
  }
  run();
  EXPECT_THAT(told_, UnorderedElementsAre(1 << 8, 2 << 8, 3 << 8, 4 << 8));
}

TEST_F(ChildrenTest, WhoIsToldMayWatchAnother) {
  children_.watch(start("exit 1"), [this](int status) {
    told_.push_back(status);
    watch("exit 2");
  });
  run();
  EXPECT_THAT(told_, ElementsAre(1 << 8, 2 << 8));
}

TEST_F(ChildrenTest, WhatIsLeftOfAGroupIsKilledFirst) {
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe(ends.data()), 0);
  // It keeps the pipe open as long as it lives.
  const int group = watch("sleep 1000 & exit 0");
  ::close(ends[1]);
  run();
  EXPECT_THAT(told_, ElementsAre(0));
  pollfd left{.fd = ends[0], .events = POLLIN, .revents = 0};
  const int ended = ::poll(&left, 1, 60'000);
  EXPECT_EQ(ended, 1);
  if (ended != 1) ::kill(-group, SIGKILL);
  char none = 0;
  EXPECT_EQ(::read(ends[0], &none, 1), 0);
  ::close(ends[0]);
}

TEST_F(ChildrenTest, WhoeverNobodyWatchesIsReapedToo) {
  const int other = start("exit 0");
  wait_for_end(other);
  watch("exit 5");
  run();
  EXPECT_THAT(told_, ElementsAre(5 << 8));
  EXPECT_FALSE(lives(other));
}

TEST_F(ChildrenTest, WhoIsKilledIsReapedAndNobodyIsTold) {
  const int one = watch("sleep 100"), two = watch("sleep 100"),
            three = watch("sleep 100"), stranger = start("sleep 100");
  children_.kill(stranger);
  children_.kill(one);
  EXPECT_FALSE(lives(one));
  EXPECT_TRUE(lives(two));
  EXPECT_TRUE(lives(stranger));
  children_.kill_all();
  EXPECT_FALSE(lives(two));
  EXPECT_FALSE(lives(three));
  EXPECT_TRUE(children_.empty());
  ::kill(-stranger, SIGKILL);
  ::waitpid(stranger, nullptr, 0);
  context_.poll();
  EXPECT_TRUE(told_.empty());
}

// It leads no group, and so is not reached: as one in a call of the kernel that
// does not return.
TEST_F(ChildrenTest, WhoDoesNotEndIsLeftBehind) {
  const int stuck = ::fork();
  if (stuck == 0) {
    ::pause();
    ::_exit(0);
  }
  children_.watch(stuck, [](int) { ADD_FAILURE(); });
  const int other = watch("sleep 100");
  const auto before = std::chrono::steady_clock::now();
  children_.kill_all();
  EXPECT_GE(std::chrono::steady_clock::now() - before, Children::kPatience);
  EXPECT_TRUE(children_.empty());
  EXPECT_FALSE(lives(other));
  EXPECT_TRUE(lives(stuck));
  // It is reaped when it ends.
  ::kill(stuck, SIGKILL);
  const auto until = before + seconds(60);
  while (lives(stuck) && std::chrono::steady_clock::now() < until) {
    context_.run_one_for(milliseconds(100));
  }
  EXPECT_FALSE(lives(stuck));
}

TEST_F(ChildrenTest, WaitingEndsWithTheLastOrWithTheTime) {
  watch("exit 0");
  watch("sleep 0.2");
  children_.wait_for_all(seconds(60));
  EXPECT_TRUE(children_.empty());
  const int slow = watch("sleep 100");
  const auto before = std::chrono::steady_clock::now();
  children_.wait_for_all(milliseconds(50));
  EXPECT_GE(std::chrono::steady_clock::now() - before, milliseconds(50));
  EXPECT_FALSE(children_.empty());
  EXPECT_TRUE(lives(slow));
  EXPECT_TRUE(told_.empty());
}

TEST(ChildrenAloneTest, NoneIsLeftBehind) {
  boost::asio::io_context context;
  const int process = start("trap '' TERM; sleep 100");
  {
    Children children(context);
    children.watch(process, [](int) { ADD_FAILURE(); });
  }
  EXPECT_FALSE(lives(process));
}

}  // namespace
}  // namespace catena::launcher
