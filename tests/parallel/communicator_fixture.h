#pragma once

#include <gmock/gmock.h>

#include <functional>
#include <string>

#include "parallel/communicator.h"
#include "tests/parallel/ranks.h"

namespace catena::testing {

inline constexpr Communicator::Deadline kLong(60);

/// What holds for ranks of every kind.
class CommunicatorTest : public ::testing::TestWithParam<RankCase> {
 protected:
  void SetUp() override {
    const RankRunner& runner = GetParam().runner;
    if (!runner.absent.empty()) GTEST_SKIP() << runner.absent;
  }
  static int size() { return GetParam().size; }
  static const std::string& no_faults() { return GetParam().runner.no_faults; }
  static void run(const std::function<void(Transport&)>& work) {
    GetParam().runner.run(size(), work);
  }
  static void run(const std::function<void(Communicator&)>& work) {
    run([&](Transport& transport) {
      Communicator communicator(transport, kLong);
      work(communicator);
    });
  }
};

}  // namespace catena::testing
