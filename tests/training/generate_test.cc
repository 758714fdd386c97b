#include "training/generate.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>

namespace catena {
namespace {

TEST(GenerateTest, TemperatureZeroTakesTheLargestAndTheLowestOfATie) {
  EXPECT_EQ(choose_token({0, 3, 1, 3}, 4, {}, 0), 1);
}

TEST(GenerateTest, RowsBeyondTheTokenizerAreNeverChosen) {
  EXPECT_EQ(choose_token({0, 3, 1, 9}, 3, {}, 0), 1);
  const GenerateOptions hot{.temperature = 100};
  for (int position = 0; position < 200; ++position) {
    EXPECT_LT(choose_token({0, 3, 1, 9}, 3, hot, position), 3);
  }
}

TEST(GenerateTest, DrawsFollowTheSoftmax) {
  const std::vector<double> logits{std::log(1.0), std::log(2.0), std::log(5.0)};
  const GenerateOptions options{.temperature = 1, .seed = 7};
  std::map<int, int> count;
  for (int position = 0; position < 8000; ++position) {
    ++count[choose_token(logits, 3, options, position)];
  }
  EXPECT_NEAR(count[0], 1000, 150);
  EXPECT_NEAR(count[1], 2000, 200);
  EXPECT_NEAR(count[2], 5000, 250);
}

TEST(GenerateTest, TopPKeepsTheSmallestSetThatReachesIt) {
  const std::vector<double> logits{std::log(1.0), std::log(2.0), std::log(5.0)};
  const auto seen = [&](double top_p) {
    std::map<int, int> count;
    for (int position = 0; position < 500; ++position) {
      ++count[choose_token(logits, 3, {.temperature = 1, .top_p = top_p},
                           position)];
    }
    return count.size();
  };
  EXPECT_EQ(seen(0), 1U);
  EXPECT_EQ(seen(0.6), 1U);
  EXPECT_EQ(seen(0.7), 2U);
  EXPECT_EQ(seen(1), 3U);
}

TEST(GenerateTest, DrawsDependOnSeedAndPositionAlone) {
  const std::vector<double> logits(50, 0.0);
  const GenerateOptions a{.temperature = 1, .seed = 1};
  const GenerateOptions b{.temperature = 1, .seed = 2};
  int different = 0;
  for (int position = 0; position < 50; ++position) {
    EXPECT_EQ(choose_token(logits, 50, a, position),
              choose_token(logits, 50, a, position));
    different += choose_token(logits, 50, a, position) !=
                 choose_token(logits, 50, b, position);
  }
  EXPECT_GT(different, 40);
}

TEST(GenerateTest, QuestionStopsBeforeTheResponse) {
  EXPECT_EQ(question("query : {query} response : {response}", "Why?"),
            "query : Why? response :");
  EXPECT_EQ(question("{query}{response}", "Why?"), "Why?");
}

}  // namespace
}  // namespace catena
