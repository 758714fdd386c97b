#include "launcher/rank_layout.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtime/base/error.h"

namespace catena::launcher {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Ranks = std::vector<int>;

RankLayout lay(int ranks, const char* hosts) {
  return lay_ranks(ranks, parse_hosts(hosts, "--hosts"));
}

std::string refusal(int ranks, const char* hosts) {
  try {
    static_cast<void>(lay(ranks, hosts));
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kUsage);
    return error.what();
  }
  return "";
}

TEST(RankLayoutTest, AgentsOfOneMachineShareIt) {
  EXPECT_THAT(rank_shares(lay(5, "a,b")),
              ElementsAre(RankShare{0, 3}, RankShare{0, 2}));
  const std::vector<Host> twice = {{.name = "a"}, {.name = "a"}};
  EXPECT_THAT(rank_shares(lay_ranks(5, twice)),
              ElementsAre(RankShare{0, 5}, RankShare{3, 5}));
}

TEST(RankLayoutTest, WithoutSlotsRanksAreLaidAsEvenlyAsCanBe) {
  EXPECT_THAT(lay(7, "a,b").ranks,
              ElementsAre(Ranks{0, 1, 2, 3}, Ranks{4, 5, 6}));
  EXPECT_THAT(lay(3, "a,b,c").ranks, ElementsAre(Ranks{0}, Ranks{1}, Ranks{2}));
  EXPECT_THAT(refusal(2, "a,b,c"), HasSubstr("3 machines for 2 ranks"));
}

TEST(RankLayoutTest, SlotsAreFilledInOrder) {
  const RankLayout layout = lay(5, "a:1,me@b:3,c:2,d:8");
  EXPECT_THAT(layout.ranks, ElementsAre(Ranks{0}, Ranks{1, 2, 3}, Ranks{4}));
  EXPECT_EQ(host_names(layout), "a, b, c");
  EXPECT_EQ(host_of(layout, 3), "b");
  EXPECT_EQ(host_of(layout, -1), "");
  EXPECT_THAT(refusal(5, "a:1,b:3"), HasSubstr("the hosts have 4 slots"));
  EXPECT_THAT(refusal(2, "a:1,me@b"), HasSubstr("me@b says no slots"));
}

TEST(RankLayoutTest, AMachineOfSeveralAgentsIsNamedOnce) {
  EXPECT_EQ(host_names(lay_ranks(2, {{.name = "a"}, {.name = "a"}})), "a");
}

}  // namespace
}  // namespace catena::launcher
