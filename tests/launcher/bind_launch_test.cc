// `catena launch --bind`: shell scripts play the ranks, and say where they may
// run.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "launcher/binding.h"
#include "runtime/base/machine.h"
#include "tests/launcher/launched.h"

namespace catena::launcher {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

class BindLaunchTest : public Launched {
 protected:
  BindLaunchTest() {
    ranks_do(R"(
echo "$(grep Cpus_allowed_list /proc/self/status) for $CATENA_CORE_SHARERS."
say joined; say done)");
  }
  [[nodiscard]] std::string log_of(int rank) const {
    return read_file(run() / "logs" / fmt::format("rank-{}.log", rank));
  }
  /// Every rank runs where it is to, alone, and plan and log say so.
  void expect_bound(const char* how, int ranks,
                    std::vector<std::string> arguments) const {
    const Binding binding = bind_ranks(machine_, bind_named(how), ranks);
    const std::string variable = fmt::format("CATENA_BIND={}", how);
    arguments.insert(arguments.end(), {"-n", fmt::format("{}", ranks)});
    fs::remove_all(run());
    const Outcome outcome = launch(arguments, {variable});
    ASSERT_EQ(outcome.code, 0) << outcome.error;
    arguments.emplace_back("--dry-run");
    const std::string plan = launch(arguments, {variable}).output;
    for (int rank = 0; rank < ranks; ++rank) {
      const auto& place = binding.places.at(static_cast<std::size_t>(rank));
      const std::string list = list_text(place.processors);
      EXPECT_THAT(log_of(rank),
                  AllOf(HasSubstr(fmt::format("list:\t{} for {}.\n", list,
                                              place.sharers)),
                        HasSubstr("-- bound to processors " + list + " --")));
      EXPECT_THAT(plan, HasSubstr(", processors " + list + ", "));
    }
  }

  const Machine machine_ = machine_here();
  const int cores_ = static_cast<int>(machine_.cores.size());
};

TEST_F(BindLaunchTest, RanksRunWhereTheyWereBoundAlone) {
  for (const char* how : {"core", "numa"}) {
    for (int ranks = 1; ranks <= std::min(cores_, 3); ++ranks) {
      SCOPED_TRACE(fmt::format("{} {}", how, ranks));
      expect_bound(how, ranks, {});
    }
  }
}

TEST_F(BindLaunchTest, AgentsOfOneMachineDivideIt) {
  if (cores_ < 2) GTEST_SKIP() << "this machine has one core";
  expect_bound("core", std::min(cores_, 3), {"--agents", "2"});
}

TEST_F(BindLaunchTest, RanksThatStartAgainAreBoundAgain) {
  ranks_do(R"(
grep Cpus_allowed_list /proc/self/status; say joined
[ "$CATENA_GENERATION$RANK" != 10 ] || kill -9 $$
[ $CATENA_GENERATION != 1 ] || exec sleep 100
say done)");
  if (cores_ < 2) GTEST_SKIP() << "this machine has one core";
  const Outcome outcome = launch({"-n", "2", "--bind", "core"});
  ASSERT_EQ(outcome.code, 0) << outcome.error;
  EXPECT_EQ(result()["generation"], 2);
  const std::string log = log_of(0),
                    line = "list:\t" + list_text(machine_.cores[0]) + "\n";
  EXPECT_NE(log.find(line), std::string::npos) << log;
  EXPECT_NE(log.find(line), log.rfind(line)) << log;
}

TEST_F(BindLaunchTest, MoreRanksThanCoresAreSaidAndNotBound) {
  if (cores_ > 64) GTEST_SKIP() << "this machine has many cores: " << cores_;
  const std::string ranks = fmt::format("{}", cores_ + 1);
  const Outcome outcome = launch({"-n", ranks, "--bind", "core"});
  EXPECT_EQ(outcome.code, 0) << outcome.error;
  EXPECT_THAT(outcome.error,
              HasSubstr(fmt::format("--bind core: {} ranks on {} core", ranks,
                                    cores_)));
  EXPECT_THAT(log_of(0), AllOf(HasSubstr("list:\t" + core_list() + " for .\n"),
                               Not(HasSubstr("-- bound"))));
  const auto plan = json_of(
      launch({"-n", ranks, "--bind", "core", "--dry-run", "--json"}).output);
  EXPECT_EQ(plan["bind"], "core");
  EXPECT_THAT(plan["not_bound"], HasSubstr("they are not bound"));
  EXPECT_TRUE(plan["ranks"][0]["processors"].is_null());
}

// HWLOC_SYNTHETIC has hwloc see another machine than this.
TEST_F(BindLaunchTest, APlanSaysTheProcessorsOfEveryRank) {
  const std::vector<std::string> arguments = {"-n", "3", "--dry-run", "--json",
                                              "--bind"};
  const auto planned = [&](const char* how) {
    std::vector<std::string> all = arguments;
    all.emplace_back(how);
    const auto plan =
        json_of(launch(all, {"HWLOC_SYNTHETIC=node:2 core:4 pu:2"}).output);
    std::vector<std::string> places;
    for (const auto& rank : plan["ranks"]) {
      places.push_back(rank["processors"].dump());
    }
    return places;
  };
  EXPECT_THAT(planned("none"), ::testing::Each("null"));
  EXPECT_THAT(planned("core"),
              ::testing::ElementsAre("\"0-5\"", "\"6-11\"", "\"12-15\""));
  EXPECT_THAT(planned("numa"),
              ::testing::ElementsAre("\"0-7\"", "\"8-15\"", "\"8-15\""));
}

// Of machines that are not this one, a plan knows no more than the share.
TEST_F(BindLaunchTest, APlanForOtherHostsNamesShares) {
  for (const char* engine : {"ssh", "mpi"}) {
    const Outcome outcome =
        launch({"-n", "4", "--hosts", "a,b", "--engine", engine, "--bind",
                "numa", "--dry-run", "--json"},
               {program_does("mpirun.openmpi", "")});
    ASSERT_EQ(outcome.code, 0) << outcome.error;
    const auto plan = json_of(outcome.output);
    EXPECT_EQ(plan["ranks"][0]["processors"], "share 1 of 2");
    EXPECT_EQ(plan["ranks"][3]["processors"], "share 2 of 2");
  }
}

TEST_F(BindLaunchTest, WhatIsNoWayToBindIsRefused) {
  const Outcome outcome = launch({"-n", "2", "--bind", "socket"});
  EXPECT_EQ(outcome.code, kExitUsage);
  EXPECT_THAT(outcome.error, HasSubstr("--bind"));
}

}  // namespace
}  // namespace catena::launcher
