#include "launcher/binding.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <thread>

#include "runtime/base/error.h"
#include "runtime/base/machine.h"

namespace catena::launcher {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr const char* kMachines[] = {
    "core:1 pu:2",
    "core:2 pu:1",
    "core:7 pu:1",
    "node:2 core:4 pu:2",
    "node:4 core:2 pu:1",
    "node:3 core:5 pu:2",
    "package:2 node:2 core:4 pu:2",
};
constexpr int kRanks[] = {1, 2, 3, 4, 7, 8};

std::vector<std::string> bound(const Machine& machine, Bind how, int ranks) {
  std::vector<std::string> texts;
  for (const auto& place : bind_ranks(machine, how, ranks).places) {
    texts.push_back(list_text(place.processors));
  }
  return texts;
}
std::vector<std::string> bound(const char* machine, Bind how, int ranks) {
  return bound(synthetic_machine(machine), how, ranks);
}

Processors all_of(const std::vector<Processors>& sets) {
  Processors all;
  for (const Processors& set : sets) {
    all.insert(all.end(), set.begin(), set.end());
  }
  std::sort(all.begin(), all.end());
  return all;
}

TEST(BindingTest, CoresAreDealtOutInOrderTheFirstGettingMore) {
  EXPECT_THAT(bound("core:2 pu:1", Bind::kCore, 2), ElementsAre("0", "1"));
  EXPECT_THAT(bound("core:7 pu:1", Bind::kCore, 3),
              ElementsAre("0-2", "3-4", "5-6"));
  EXPECT_THAT(bound("node:2 core:4 pu:2", Bind::kCore, 3),
              ElementsAre("0-5", "6-11", "12-15"));
  EXPECT_THAT(bound("node:2 core:4 pu:2", Bind::kCore, 8),
              ElementsAre("0-1", "2-3", "4-5", "6-7", "8-9", "10-11", "12-13",
                          "14-15"));
}

TEST(BindingTest, EveryCoreIsOfOneRank) {
  for (const char* description : kMachines) {
    const Machine machine = synthetic_machine(description);
    for (const int ranks : kRanks) {
      SCOPED_TRACE(::testing::Message() << ranks << " on " << description);
      const Binding binding = bind_ranks(machine, Bind::kCore, ranks);
      if (ranks > static_cast<int>(machine.cores.size())) {
        EXPECT_THAT(binding.places, IsEmpty());
        EXPECT_NE(binding.why_not, "");
        continue;
      }
      EXPECT_EQ(binding.why_not, "");
      ASSERT_EQ(static_cast<int>(binding.places.size()), ranks);
      std::vector<Processors> sets;
      std::set<std::size_t> sizes;
      for (const auto& place : binding.places) {
        EXPECT_EQ(place.sharers, 1);
        sets.push_back(place.processors);
        sizes.insert(place.processors.size() / machine.cores[0].size());
      }
      EXPECT_EQ(all_of(sets), all_of(machine.cores));
      EXPECT_LE(*sizes.rbegin() - *sizes.begin(), 1U);
      EXPECT_TRUE(std::is_sorted(sets.begin(), sets.end()));
    }
  }
}

TEST(BindingTest, RanksGetNodesOrShareOne) {
  const char* const four = "node:4 core:2 pu:1";
  EXPECT_THAT(bound(four, Bind::kNuma, 1), ElementsAre("0-7"));
  EXPECT_THAT(bound(four, Bind::kNuma, 2), ElementsAre("0-3", "4-7"));
  EXPECT_THAT(bound(four, Bind::kNuma, 4),
              ElementsAre("0-1", "2-3", "4-5", "6-7"));
  EXPECT_THAT(bound(four, Bind::kNuma, 7),
              ElementsAre("0-1", "2-3", "2-3", "4-5", "4-5", "6-7", "6-7"));
  EXPECT_THAT(bound("node:2 core:4 pu:2", Bind::kNuma, 3),
              ElementsAre("0-7", "8-15", "8-15"));
  const Binding shared =
      bind_ranks(synthetic_machine("node:2 core:4 pu:2"), Bind::kNuma, 3);
  EXPECT_EQ(shared.places[0].sharers, 1);
  EXPECT_EQ(shared.places[1].sharers, 2);
}

TEST(BindingTest, NoNodeIsCutOrLeftOut) {
  for (const char* description : kMachines) {
    const Machine machine = synthetic_machine(description);
    for (const int ranks : kRanks) {
      if (ranks > static_cast<int>(machine.cores.size())) continue;
      SCOPED_TRACE(::testing::Message() << ranks << " on " << description);
      const Binding binding = bind_ranks(machine, Bind::kNuma, ranks);
      std::set<Processors> used;
      int shares = 0;
      for (const auto& place : binding.places) {
        shares += used.insert(place.processors).second ? place.sharers : 0;
        for (const Processors& node : machine.nodes) {
          Processors common;
          std::set_intersection(
              node.begin(), node.end(), place.processors.begin(),
              place.processors.end(), std::back_inserter(common));
          EXPECT_TRUE(common.empty() || common == node);
        }
      }
      EXPECT_EQ(shares, ranks);
      EXPECT_EQ(all_of({used.begin(), used.end()}), all_of(machine.cores));
    }
  }
}

// Memory that all cores share beside that of each package.
TEST(BindingTest, OnlyTheNearestNodesCount) {
  EXPECT_THAT(bound("[numa] package:2 [numa] core:2 pu:1", Bind::kNuma, 2),
              ElementsAre("0-1", "2-3"));
}

// Nodes that are memory alone have no processors, and cores may be in none.
TEST(BindingTest, CoresWithoutANodeAreOneMore) {
  const Machine machine = {.cores = {{0}, {1}, {2}, {3}, {4}},
                           .nodes = {{0, 1}}};
  EXPECT_THAT(bound(machine, Bind::kNuma, 1), ElementsAre("0-4"));
  EXPECT_THAT(bound(machine, Bind::kNuma, 2), ElementsAre("0-1", "2-4"));
  EXPECT_THAT(bound(machine, Bind::kNuma, 5),
              ElementsAre("0-1", "0-1", "2-4", "2-4", "2-4"));
  EXPECT_THAT(bound({.cores = {{4}, {5}}, .nodes = {}}, Bind::kNuma, 2),
              ElementsAre("4-5", "4-5"));
}

// As a control group that leaves parts of two nodes.
TEST(BindingTest, OnlyWhatIsAllowedIsDealtOut) {
  const Machine machine = {.cores = {{2, 10}, {3, 11}, {9}},
                           .nodes = {{2, 3, 10, 11}, {9}}};
  EXPECT_THAT(bound(machine, Bind::kCore, 2), ElementsAre("2-3,10-11", "9"));
  EXPECT_THAT(bound(machine, Bind::kNuma, 2), ElementsAre("2-3,10-11", "9"));
  EXPECT_THAT(bound(machine, Bind::kCore, 3), ElementsAre("2,10", "3,11", "9"));
}

TEST(BindingTest, AThreadRunsWhereItIsBound) {
  const Processors first = machine_here().cores.front();
  std::thread([&] {
    bind_caller(mask_of({}));
    EXPECT_EQ(list_text(all_of(machine_here().cores)), core_list());
    bind_caller(mask_of(first));
    EXPECT_EQ(list_text(all_of(machine_here().cores)), list_text(first));
    EXPECT_EQ(machine_here().nodes.size(), 1U);
    // Nothing changes.
    bind_caller(mask_of({100000}));
    EXPECT_EQ(list_text(all_of(machine_here().cores)), list_text(first));
  }).join();
}

TEST(BindingTest, MasksAreAsLongAsTheyMustBe) {
  EXPECT_TRUE(mask_of({}).empty());
  const ProcessorMask mask = mask_of({1, 1023, 1024});
  ASSERT_EQ(mask.size(), 2U);
  EXPECT_EQ(CPU_COUNT(&mask[0]), 2);
  EXPECT_NE(CPU_ISSET(0, &mask[1]), 0);
}

TEST(BindingTest, MoreRanksThanCoresAreNotBound) {
  const Machine machine = synthetic_machine("node:2 core:1 pu:2");
  for (const Bind how : {Bind::kCore, Bind::kNuma}) {
    const Binding binding = bind_ranks(machine, how, 3);
    EXPECT_THAT(binding.places, IsEmpty());
    EXPECT_EQ(binding.why_not, "3 ranks on 2 cores: they are not bound");
  }
  EXPECT_EQ(bind_ranks(machine, Bind::kNone, 3).why_not, "");
  EXPECT_THAT(bind_ranks(machine, Bind::kNone, 1).places, IsEmpty());
}

TEST(BindingTest, ThisMachineIsWhatThisProcessMayUse) {
  const Machine machine = machine_here();
  EXPECT_EQ(list_text(all_of(machine.cores)), core_list());
  EXPECT_EQ(list_text(all_of(machine.nodes)), core_list());
}

TEST(BindingTest, NamesAndLists) {
  for (const Bind bind : {Bind::kNone, Bind::kCore, Bind::kNuma}) {
    EXPECT_EQ(bind_named(name_of(bind)), bind);
  }
  EXPECT_THROW(static_cast<void>(bind_named("socket")), Error);
  EXPECT_THROW(static_cast<void>(synthetic_machine("core:0")), Error);
  EXPECT_EQ(list_text({}), "");
  EXPECT_EQ(list_text({3}), "3");
  EXPECT_EQ(list_text({0, 1, 2, 5, 7, 8}), "0-2,5,7-8");
}

}  // namespace
}  // namespace catena::launcher
