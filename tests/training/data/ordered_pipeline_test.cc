#include "training/data/ordered_pipeline.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <stdexcept>

namespace catena::data {
namespace {

class OrderedPipelineTest : public ::testing::TestWithParam<int> {};

TEST_P(OrderedPipelineTest, ConsumesInTheOrderOfProduction) {
  int next = 0;
  std::vector<int> consumed;
  ordered_pipeline(
      GetParam(),
      [&]() -> std::optional<int> {
        return next < 200 ? std::optional(next++) : std::nullopt;
      },
      [](int item) {
        // The first of a few takes longest.
        std::this_thread::sleep_for(std::chrono::microseconds(item % 7 * 50));
        return 2 * item;
      },
      [&](int result) { consumed.push_back(result); });
  ASSERT_EQ(consumed.size(), 200U);
  for (int i = 0; i < 200; ++i) {
    EXPECT_EQ(consumed[static_cast<std::size_t>(i)], 2 * i);
  }
}

TEST_P(OrderedPipelineTest, ThrowsWhatTheFirstFailingItemThrew) {
  int next = 0;
  std::vector<int> consumed;
  const auto run = [&] {
    ordered_pipeline(
        GetParam(), [&] { return std::optional(next++); },
        [](int item) {
          if (item == 5) {
            std::this_thread::sleep_for(std::chrono::milliseconds(5));
          }
          if (item >= 5) throw std::runtime_error(std::to_string(item));
          return item;
        },
        [&](int result) { consumed.push_back(result); });
  };
  try {
    run();
    FAIL() << "nothing thrown";
  } catch (const std::runtime_error& error) {
    EXPECT_STREQ(error.what(), "5");
  }
  EXPECT_THAT(consumed, ::testing::ElementsAre(0, 1, 2, 3, 4));
}

TEST_P(OrderedPipelineTest, ThrowsWhatProductionOrConsumptionThrew) {
  int next = 0;
  const auto produce = [&]() -> std::optional<int> {
    if (next == 3) throw std::runtime_error("produce");
    return next++;
  };
  const auto work = [](int item) { return item; };
  int sum = 0;
  EXPECT_THROW(
      ordered_pipeline(GetParam(), produce, work, [&](int r) { sum += r; }),
      std::runtime_error);
  EXPECT_EQ(sum, 0 + 1 + 2);
  next = 0;
  const auto refuse = [](int) { throw std::logic_error("consume"); };
  EXPECT_THROW(ordered_pipeline(GetParam(), produce, work, refuse),
               std::logic_error);
}

INSTANTIATE_TEST_SUITE_P(Threads, OrderedPipelineTest,
                         ::testing::Values(1, 2, 5));

}  // namespace
}  // namespace catena::data
