#include "parallel/placement.h"

#include <gmock/gmock.h>

#include <numeric>

#include "parallel/local/transport.h"
#include "parallel/mesh.h"
#include "parallel/nodes.h"
#include "runtime/base/error.h"

namespace catena {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<std::size_t> sizes(const Placement& placement) {
  std::vector<std::size_t> result;
  for (int rank = 0; rank < placement.ranks(); ++rank) {
    result.push_back(placement.held(rank).size());
  }
  return result;
}

TEST(PlacementTest, RunsAreAsEvenAsWholeExpertsAllow) {
  const Placement placement = Placement::contiguous(63, 8);
  EXPECT_THAT(sizes(placement), ElementsAre(8, 8, 8, 8, 8, 8, 8, 7));
  EXPECT_THAT(placement.holders(0), ElementsAre(0));
  EXPECT_THAT(placement.holders(55), ElementsAre(6));
  EXPECT_THAT(placement.holders(56), ElementsAre(7));
  EXPECT_THAT(sizes(Placement::contiguous(2, 3)), ElementsAre(1, 1, 0));
  EXPECT_THAT(sizes(Placement::contiguous(5, 1)), ElementsAre(5));
}

TEST(PlacementTest, RoundRobinDealsExperts) {
  const Placement placement = Placement::round_robin(7, 3);
  EXPECT_THAT(placement.held(0), ElementsAre(0, 3, 6));
  EXPECT_THAT(placement.held(2), ElementsAre(2, 5));
}

TEST(PlacementTest, AHolderServesItselfAndOthersAreDealt) {
  const Placement placement({{1, 3}, {0}}, 4);
  EXPECT_EQ(placement.server(0, 1), 1);
  EXPECT_EQ(placement.server(0, 3), 3);
  EXPECT_EQ(placement.server(0, 0), 1);
  EXPECT_EQ(placement.server(0, 2), 1);
  EXPECT_EQ(placement.server(1, 3), 0);
  EXPECT_EQ(placement.served(1, 0), 1);
  EXPECT_EQ(placement.served(0, 0), 1);
  EXPECT_EQ(placement.served(3, 3), 1);
  EXPECT_EQ(placement.served(3, 0), 0);
}

std::string message(const std::vector<std::vector<int>>& holders) {
  try {
    const Placement placement(holders, 3);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kConfig);
    return error.what();
  }
  return "accepted";
}

TEST(PlacementTest, SaysWhatIsWrong) {
  EXPECT_THAT(message({{0}, {}}), HasSubstr("nobody holds expert 1"));
  EXPECT_THAT(message({{0, 2, 0}}), HasSubstr("rank 0 holds expert 0 twice"));
  EXPECT_THAT(message({{0}, {3}}), HasSubstr("expert 1 is on rank 3"));
  EXPECT_THAT(message({{-1}}), HasSubstr("expert 0 is on rank -1"));
}

TEST(MeshTest, GroupsAndReplicasCoverTheWorld) {
  const Mesh mesh = make_mesh(6, 3, 7);
  EXPECT_EQ(mesh.data(), 2);
  EXPECT_THAT(mesh.expert_group(4), ElementsAre(3, 4, 5));
  const std::vector<int> places{0, 2}, one{1};
  EXPECT_THAT(mesh.at_places(one), ElementsAre(1, 4));
  EXPECT_THAT(mesh.at_places(places), ElementsAre(0, 2, 3, 5));
}

TEST(MeshTest, RefusesWhatDoesNotDivide) {
  for (const auto& [world, expert] :
       {std::pair{4, 3}, {0, 1}, {4, 0}, {2, 4}, {-2, -1}}) {
    EXPECT_THROW(static_cast<void>(make_mesh(world, expert, 64)), Error);
  }
  try {
    static_cast<void>(make_mesh(8, 8, 7));
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("only 7 routed experts"));
  }
  for (const auto& [expert, of_node] : {std::pair{6, 4}, {4, 3}, {3, 2}}) {
    try {
      static_cast<void>(
          make_mesh(12, expert, 64, {.ranks = of_node, .hierarchical = true}));
      FAIL();
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), HasSubstr("parallel.hierarchical = true"));
    }
    EXPECT_NO_THROW(
        static_cast<void>(make_mesh(12, expert, 64, {.ranks = of_node})));
  }
}

TEST(PlacementTest, CrossingNodesChoosesTheNodeFirst) {
  const Placement placement({{0, 5, 6, 7}, {2, 3}, {1}, {0, 4}}, 8);
  for (std::int64_t expert = 0; expert < 4; ++expert) {
    for (int home = 0; home < 8; ++home) {
      // One node, or nodes of one: nothing changes.
      EXPECT_EQ(placement.server(expert, home, 8),
                placement.server(expert, home));
    }
  }
  EXPECT_EQ(placement.server(0, 1, 4), 0);  // on its node
  EXPECT_EQ(placement.server(0, 4, 4), 5);  // the first of three for place 0
  EXPECT_EQ(placement.server(0, 6, 4), 6);  // itself
  EXPECT_EQ(placement.server(1, 4, 4), 2);
  EXPECT_EQ(placement.server(1, 5, 4), 3);
  EXPECT_EQ(placement.server_node(1, 5, 4), 0);
  EXPECT_EQ(placement.server_inside(1, 5, 4), -1);
  EXPECT_EQ(placement.served(3, 5, 4), 1);
}

TEST(MeshTest, CrossesSeveralNodesOfSeveralRanksAlone) {
  const auto mesh = [](int expert, std::int64_t of_node, bool hierarchical) {
    return make_mesh(8, expert, 64,
                     {.ranks = of_node, .hierarchical = hierarchical});
  };
  EXPECT_TRUE(mesh(8, 2, true).crosses());
  EXPECT_TRUE(mesh(4, 2, true).crosses());
  EXPECT_EQ(mesh(8, 2, true).node(), 2);
  EXPECT_EQ(mesh(8, 2, true).nodes(), 4);
  for (const Mesh& plain :
       {mesh(8, 2, false), mesh(8, 1, true), mesh(8, 8, true), mesh(4, 4, true),
        mesh(2, 4, true), mesh(8, 0, true)}) {
    EXPECT_FALSE(plain.crosses());
    EXPECT_EQ(plain.node(), plain.expert);
    EXPECT_EQ(plain.nodes(), 1);
  }
}

TEST(MeshTest, HostsWithEquallyManyNeighboursAreNodes) {
  const auto found = [](const std::vector<std::uint64_t>& hosts) {
    return ranks_per_node(hosts);
  };
  EXPECT_EQ(found({7}), 1);
  EXPECT_EQ(found({7, 7, 7}), 3);
  EXPECT_EQ(found({7, 8, 9}), 1);
  EXPECT_EQ(found({7, 7, 8, 8}), 2);
  // Dealt out in turn, or unevenly.
  EXPECT_EQ(found({7, 8, 7, 8}), 4);
  EXPECT_EQ(found({7, 7, 8}), 3);
  EXPECT_EQ(found({7, 8, 8, 8}), 4);
  EXPECT_EQ(found({7, 7, 7, 8, 8, 9}), 6);
}

TEST(PlacementTest, TheFullestHoldsTheMostOfAllLayers) {
  EXPECT_EQ(Placements(Placement::contiguous(63, 8)).fullest(), 0);
  const Placement first({{0}, {1}, {1}, {2}}, 3),
      second({{2}, {2}, {2}, {0}}, 3);
  EXPECT_EQ(Placements(first).fullest(), 1);
  EXPECT_EQ(Placements({first, second}).fullest(), 2);
}

TEST(MeshTest, RanksAgreeOnHowManyShareAHost) {
  for (const int size : {1, 2, 3, 4, 7, 8}) {
    local::run_ranks(size, [&](Transport& transport) {
      const auto host = static_cast<std::uint64_t>(transport.rank() / 2);
      EXPECT_EQ(
          find_ranks_per_node(transport, host, Communicator::Deadline(60)),
          size % 2 == 0 ? 2 : size);
    });
  }
}

TEST(MeshTest, ARankCountsThoseThatSayTheSame) {
  for (const int size : {1, 2, 3, 7}) {
    local::run_ranks(size, [&](Transport& transport) {
      std::vector<int> ranks(static_cast<std::size_t>(size));
      std::iota(ranks.begin(), ranks.end(), 0);
      Communicator all(transport, ranks, Communicator::Deadline(60));
      const int rank = transport.rank();
      // Dealt out to two in turn: the first gets one more.
      const Alike found =
          find_alike(all, static_cast<std::uint64_t>(rank % 2), 10);
      EXPECT_EQ(found.count, (size + 1 - rank % 2) / 2);
      EXPECT_EQ(found.sum, 10 * found.count);
    });
  }
}

}  // namespace
}  // namespace catena
