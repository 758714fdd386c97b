#include "launcher/node_choice.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtime/base/error.h"

namespace catena::launcher {
namespace {

using ::testing::HasSubstr;

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
