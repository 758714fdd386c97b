#include "launcher/node_choice.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtime/base/error.h"

namespace catena::launcher {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::string refusal(NodeRequest request) {
  try {
    static_cast<void>(choose_nodes(std::move(request)));
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kUsage);
    return error.what();
  }
  return "";
}

std::vector<Host> hosts(const char* text) {
  return parse_hosts(text, "--hosts");
}

TEST(NodeChoiceTest, WithoutMachinesTheRanksAreHere) {
  const NodeChoice none = choose_nodes({.cores = 8});
  EXPECT_EQ(none.ranks, 1);
  EXPECT_EQ(none.agents, 0);
  EXPECT_EQ(choose_nodes({.ranks = 4}).ranks, 4);
  EXPECT_EQ(choose_nodes({.ranks_per_node = "auto", .cores = 8}).ranks, 8);
  EXPECT_EQ(choose_nodes({.ranks_per_node = "3", .agents = 2}).ranks, 6);
}

TEST(NodeChoiceTest, TheEngineIsWhatThereAreHostsOrNodesFor) {
  const Allocation two{hosts("n1:2,n2:2"), "n1"}, outside{hosts("n1"), ""},
      inside{hosts("n1:2"), "n1"};
  const auto engine = [](NodeRequest request) {
    return choose_nodes(std::move(request)).engine;
  };
  EXPECT_EQ(engine({}), Engine::kLocal);
  EXPECT_EQ(engine({.allocation = two}), Engine::kSlurm);
  EXPECT_EQ(engine({.allocation = outside}), Engine::kSlurm);
  EXPECT_EQ(engine({.allocation = inside}), Engine::kLocal);
  EXPECT_EQ(engine({.agents = 2, .allocation = two}), Engine::kLocal);
  EXPECT_EQ(engine({.hosts = hosts("a,b"), .allocation = two}), Engine::kSsh);
  EXPECT_EQ(engine({.engine = "local", .allocation = two}), Engine::kLocal);
  EXPECT_EQ(engine({.engine = "slurm", .allocation = inside}), Engine::kSlurm);
  EXPECT_THAT(refusal({.engine = "slurm"}), HasSubstr("no allocation"));
  EXPECT_THAT(refusal({.engine = "ssh"}), HasSubstr("--hostfile"));
  EXPECT_THAT(
      refusal({.hosts = hosts("a"), .engine = "slurm", .allocation = two}),
      HasSubstr("for --engine ssh"));
  EXPECT_THAT(refusal({.agents = 1, .engine = "slurm", .allocation = two}),
              HasSubstr("for --engine local"));
}

TEST(NodeChoiceTest, TasksOfSlurmAreRanksUnlessMoreIsSaid) {
  const Allocation two{hosts("n1:2,n2:3"), "n1"};
  const NodeChoice all = choose_nodes({.allocation = two});
  EXPECT_EQ(all.ranks, 5);
  EXPECT_EQ(all.hosts, two.nodes);
  EXPECT_EQ(choose_nodes({.ranks = 3, .allocation = two}).ranks, 3);
  const NodeChoice more =
      choose_nodes({.ranks_per_node = "8", .allocation = two});
  EXPECT_EQ(more.ranks, 16);
  EXPECT_EQ(more.hosts, hosts("n1,n2")) << "whatever the tasks are";
  const NodeChoice elastic =
      choose_nodes({.nodes = "1:2", .ranks_per_node = "2", .allocation = two});
  EXPECT_EQ(elastic.least_agents, 1);
  const Allocation one{hosts("n1:4"), "n1"};
  EXPECT_EQ(choose_nodes({.allocation = one}).ranks, 4);
  EXPECT_TRUE(choose_nodes({.allocation = one}).hosts.empty());
  EXPECT_EQ(choose_nodes({.ranks = 6, .allocation = one}).ranks, 6);
}

TEST(NodeChoiceTest, MachinesAreTheFirstHostsOrAgentsHere) {
  const NodeChoice here =
      choose_nodes({.nodes = "2", .ranks_per_node = "4", .agents = 2});
  EXPECT_EQ(here.agents, 2);
  EXPECT_EQ(here.ranks, 8);
  EXPECT_EQ(here.least_agents, 0);
  const NodeChoice some =
      choose_nodes({.ranks = 6, .nodes = "2:2", .hosts = hosts("a,b,c")});
  EXPECT_EQ(some.hosts, hosts("a,b"));
  EXPECT_EQ(some.ranks, 6);
  EXPECT_EQ(some.least_agents, 0);
  EXPECT_THAT(refusal({.nodes = "4", .hosts = hosts("a,b,c")}),
              HasSubstr("there are 3 hosts"));
  EXPECT_THAT(refusal({.nodes = "4", .agents = 3}), HasSubstr("--agents 4"));
  EXPECT_THAT(refusal({.nodes = "2"}), HasSubstr("which machines"));
}

TEST(NodeChoiceTest, MachinesBeyondTheFirstMayBeSpareOnes) {
  const NodeChoice some = choose_nodes(
      {.ranks = 4, .nodes = "2", .hosts = hosts("a,b,c,d"), .spares = true});
  EXPECT_EQ(some.hosts, hosts("a,b"));
  EXPECT_EQ(some.spare_hosts, hosts("c,d"));
  EXPECT_EQ(choose_nodes({.hosts = hosts("a,b"), .spares = true}).spare_hosts,
            std::vector<Host>());
  EXPECT_THAT(choose_nodes({.nodes = "2", .hosts = hosts("a,b,c")}).spare_hosts,
              IsEmpty());
  EXPECT_THAT(refusal({.engine = "mpi", .spares = true}),
              HasSubstr("--exclude-slow needs an agent"));
}

TEST(NodeChoiceTest, SlotsAreRanksWhereNothingElseSaysSo) {
  EXPECT_EQ(choose_nodes({.hosts = hosts("a:2,b:3")}).ranks, 5);
  EXPECT_EQ(
      choose_nodes({.ranks_per_node = "auto", .hosts = hosts("a:2,b:3")}).ranks,
      5);
  EXPECT_EQ(choose_nodes({.ranks = 4, .hosts = hosts("a:2,b:3")}).ranks, 4);
  EXPECT_EQ(choose_nodes({.hosts = hosts("a,b")}).ranks, 2);
}

TEST(NodeChoiceTest, FewerAreEnoughWhereMachinesAreAlike) {
  const NodeChoice choice = choose_nodes(
      {.nodes = "1:3", .ranks_per_node = "2", .hosts = hosts("a,b,c")});
  EXPECT_EQ(choice.ranks, 6);
  EXPECT_EQ(choice.least_agents, 1);
  EXPECT_EQ(
      choose_nodes({.ranks = 4, .nodes = "1:2", .agents = 2}).least_agents, 1);
  EXPECT_THAT(refusal({.ranks = 5, .nodes = "1:2", .agents = 2}),
              HasSubstr("as many as any other"));
  EXPECT_THAT(
      refusal({.ranks = 6, .nodes = "1:3", .hosts = hosts("a:4,b:4,c:4")}),
      HasSubstr("all of them taken"));
  EXPECT_THAT(refusal({.nodes = "1:2", .hosts = hosts("a:2,b:4")}),
              HasSubstr("as many as any other"));
}

TEST(NodeChoiceTest, WhatIsNoNumberIsRefused) {
  for (const char* text :
       {"0", "-1", "2:", ":2", "a", "2:1", "1:2:3", "99999", "2 "}) {
    EXPECT_THAT(refusal({.nodes = text}), HasSubstr("--nnodes")) << text;
  }
  EXPECT_THAT(refusal({.ranks_per_node = "gpu"}),
              HasSubstr("--nproc-per-node gpu"));
  EXPECT_THAT(refusal({.ranks = 2, .ranks_per_node = "2"}),
              HasSubstr("say one of them"));
}

}  // namespace
}  // namespace catena::launcher
