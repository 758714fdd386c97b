#include "training/lease_watch.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <functional>
#include <thread>

#include "launcher/contract.h"

namespace catena {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::seconds;

/// A lease of ten seconds in virtual time. `meanwhile` is what happens when the
/// watcher looks at the clock, or sleeps, the how many-th time.
class VirtualLease : public LeaseSight {
 public:
  using Meanwhile = std::function<void(VirtualLease&, int)>;
  explicit VirtualLease(Meanwhile meanwhile)
      : meanwhile_(std::move(meanwhile)) {}

  [[nodiscard]] BootTime now() override {
    const BootTime seen = time;
    if (after_clock) after_clock(*this);
    return seen;
  }
  [[nodiscard]] BootTime until() override { return renewed + seconds(10); }
  void sleep_until(BootTime at) override {
    EXPECT_GT(at, time) << "it does not sleep";
    time = std::max(time, at);
    meanwhile_(*this, ++sleeps);
    ASSERT_LT(sleeps, 1000) << "it never ends";
  }
  void renew(BootTime at) { renewed = at; }

  BootTime time{}, renewed{};
  int sleeps = 0;
  std::function<void(VirtualLease&)> after_clock;

 private:
  Meanwhile meanwhile_;
};

TEST(LeaseWatchTest, EndsALeaseAfterTheLastBeat) {
  VirtualLease lease([](VirtualLease& at, int sleeps) {
    // Beats came until a second before; then none.
    if (sleeps <= 50) at.renew(at.time - seconds(1));
  });
  const BootTime end = outlive(lease);
  EXPECT_EQ(end, lease.renewed + seconds(10));
  EXPECT_EQ(lease.sleeps, 51);
}

TEST(LeaseWatchTest, AnAgentThatIsStoppedForLessDoesNoHarm) {
  VirtualLease lease([](VirtualLease& at, int sleeps) {
    // It was silent for all of the lease but a millisecond.
    if (sleeps <= 20) at.renew(at.time - milliseconds(1));
  });
  static_cast<void>(outlive(lease));
  EXPECT_EQ(lease.sleeps, 21);
}

TEST(LeaseWatchTest, ARankThatWasStoppedLooksBeforeItJudges) {
  // Stopped while it sleeps, for an hour in which the agent went on.
  VirtualLease lease([](VirtualLease& at, int sleeps) {
    if (sleeps > 10) return;
    at.time += hours(1);
    at.renew(at.time - milliseconds(250));
  });
  static_cast<void>(outlive(lease));
  EXPECT_EQ(lease.sleeps, 11);
}

TEST(LeaseWatchTest, ARankThatWasStoppedBetweenClockAndLeaseLivesOn) {
  int looks = 0;
  VirtualLease lease([](VirtualLease&, int) {});
  lease.after_clock = [&looks](VirtualLease& at) {
    if (++looks > 10) return;
    at.time += hours(1);
    at.renew(at.time);
  };
  static_cast<void>(outlive(lease));
  EXPECT_GT(looks, 10);
}

TEST(LeaseWatchTest, AMachineThatWasSuspendedHasLostIt) {
  // Clock and agent alike: nothing was renewed.
  VirtualLease lease([](VirtualLease& at, int) { at.time += hours(1); });
  EXPECT_EQ(outlive(lease), hours(1) + seconds(10));
}

/// The watch is the process's own: each case has one that ends with it.
class LeaseWatchDeathTest : public testing::Test {
 protected:
  static void name(int descriptor) {
    ::setenv(kLeaseVariable, fmt::format("{}", descriptor).c_str(), 1);
  }
};

TEST_F(LeaseWatchDeathTest, ALeaseThatIsOverEndsWhoHoldsIt) {
  const auto live = [] {
    const Lease lease(milliseconds(50), boot_time());
    name(lease.descriptor());
    watch_lease([](const std::string& text) {
      fmt::print(stderr, "{}\n", text);
      std::_Exit(3);
    });
    if (std::getenv(kLeaseVariable) != nullptr ||
        ::fcntl(lease.descriptor(), F_GETFD) >= 0) {
      std::_Exit(4);
    }
    for (;;) std::this_thread::sleep_for(seconds(1));
  };
  EXPECT_EXIT(live(), testing::ExitedWithCode(3),
              "^this rank's agent has heard nothing of the launcher for "
              "[0-9.]+ s: it is stopped, or this machine was; the rank ends, "
              "and saves nothing\n$");
}

TEST_F(LeaseWatchDeathTest, WhatIsNoLeaseIsWarnedOfAndWithoutOneAllIsQuiet) {
  const auto live = [] {
    const auto over = [](const std::string&) { std::_Exit(3); };
    ::unsetenv(kLeaseVariable);
    watch_lease(over);
    name(9999);
    watch_lease(over);
    std::_Exit(0);
  };
  EXPECT_EXIT(live(), testing::ExitedWithCode(0),
              "^warning: CATENA_LEASE_FD=9999: descriptor 9999 is not a lease; "
              "[^\n]*\n$");
}

}  // namespace
}  // namespace catena
