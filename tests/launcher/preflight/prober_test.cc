#include "launcher/preflight/prober.h"

#include <gtest/gtest.h>

#include <boost/asio/io_context.hpp>
#include <chrono>
#include <optional>
#include <vector>

#include "tests/launcher/no_threads.h"

namespace catena::launcher {
namespace {

TEST(ProberTest, WhatNoThreadCanAnswerHasFailedAndTheNextIsAsked) {
  boost::asio::io_context context;
  std::vector<Probed> told;
  Prober prober(context, [&](const Probed& probed) { told.push_back(probed); });
  const auto run_until = [&](std::size_t count) {
    const auto until =
        std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (told.size() < count && std::chrono::steady_clock::now() < until) {
      context.run_one_for(std::chrono::milliseconds(10));
      context.restart();
    }
  };
  {
    const NoThreads none;
    prober.ask({1, ProbeClock{}});
    prober.ask({2, ProbeClock{}});
    EXPECT_TRUE(told.empty()) << "nobody is called from within a call";
    run_until(2);
  }
  prober.ask({3, ProbeClock{}});
  run_until(3);
  ASSERT_EQ(told.size(), 3U);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(told[i].number, i + 1);
  EXPECT_TRUE(std::holds_alternative<ProbeFailed>(told[0].body));
  EXPECT_TRUE(std::holds_alternative<ProbeFailed>(told[1].body));
  EXPECT_TRUE(std::holds_alternative<ClockFacts>(told[2].body));
  EXPECT_FALSE(prober.busy());
}

}  // namespace
}  // namespace catena::launcher
