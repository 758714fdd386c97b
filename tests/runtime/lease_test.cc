#include "runtime/base/lease.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <memory>
#include <string>

#include "runtime/base/error.h"

namespace catena {
namespace {

using std::chrono::hours;

TEST(LeaseTest, EachRenewalIsSeenByTheOtherSide) {
  const BootTime begin = boot_time();
  Lease lease(hours(1), begin);
  const LeaseView view(lease.descriptor());
  EXPECT_EQ(view.length(), hours(1));
  EXPECT_EQ(view.until(), begin + hours(1));
  lease.renew(begin + hours(2));
  EXPECT_EQ(view.until(), begin + hours(3));
  lease.renew(begin + hours(1));
  EXPECT_EQ(view.until(), begin + hours(3)) << "it never falls";
}

TEST(LeaseTest, OneThatIsOverStaysOver) {
  Lease lease(BootTime(0), boot_time());
  const LeaseView view(lease.descriptor());
  const BootTime until = view.until();
  lease.renew(boot_time() + hours(1));
  EXPECT_EQ(view.until(), until);
}

TEST(LeaseTest, TheViewOutlivesTheLease) {
  auto lease = std::make_unique<Lease>(hours(1), boot_time());
  const LeaseView view(lease->descriptor());
  const BootTime until = view.until();
  lease.reset();
  EXPECT_EQ(view.until(), until);
}

TEST(LeaseTest, WhatIsNoLeaseIsRefused) {
  std::array<int, 2> pipe{};
  ASSERT_EQ(::pipe(pipe.data()), 0);
  std::string name = testing::TempDir() + "leaseXXXXXX";
  const int file = ::mkstemp(name.data());
  ASSERT_EQ(::ftruncate(file, 16), 0);
  for (const int other : {pipe[0], file, -1, 9999}) {
    EXPECT_THROW(LeaseView{other}, Error) << other;
  }
  for (const int mine : {pipe[0], pipe[1], file}) ::close(mine);
  ::unlink(name.c_str());
}

}  // namespace
}  // namespace catena
