#include "launcher/preflight/link_schedule.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <set>

namespace catena::launcher {
namespace {

using ::testing::IsEmpty;

TEST(LinkScheduleTest, AllMeetOnceAndNobodyTwiceARound) {
  for (const int count : {1, 2, 3, 4, 7, 8, 40}) {
    std::vector<int> agents(static_cast<std::size_t>(count));
    for (int i = 0; i < count; ++i) {
      agents[static_cast<std::size_t>(i)] = 10 * i;
    }
    const auto rounds = link_schedule(agents, 8);
    const bool all = count <= 8;
    EXPECT_LE(rounds.size(), 8U);
    std::set<std::set<int>> pairs;
    std::map<int, int> partners;
    for (const LinkRound& round : rounds) {
      std::set<int> busy;
      for (const auto& [from, to] : round) {
        EXPECT_TRUE(busy.insert(from).second);
        EXPECT_TRUE(busy.insert(to).second);
        EXPECT_TRUE(pairs.insert({from, to}).second);
        ++partners[from];
        ++partners[to];
      }
    }
    if (all) {
      EXPECT_EQ(pairs.size(),
                static_cast<std::size_t>(count * (count - 1) / 2));
    } else {
      for (const int agent : agents) EXPECT_GE(partners[agent], 7);
    }
  }
}

TEST(LinkScheduleTest, PairsMeetAndNobodyTwiceARound) {
  const LinkRound pairs = {{1, 2}, {3, 1}, {1, 4}, {2, 3}, {5, 6}};
  const auto rounds = link_schedule(pairs);
  EXPECT_EQ(rounds.size(), 3U);
  std::multiset<std::pair<int, int>> met;
  for (const LinkRound& round : rounds) {
    std::set<int> busy;
    for (const auto& [from, to] : round) {
      EXPECT_TRUE(busy.insert(from).second);
      EXPECT_TRUE(busy.insert(to).second);
      met.emplace(from, to);
    }
  }
  EXPECT_EQ(met, std::multiset(pairs.begin(), pairs.end()));
  EXPECT_THAT(link_schedule(LinkRound()), IsEmpty());
}

}  // namespace
}  // namespace catena::launcher
