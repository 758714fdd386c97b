// Runs whose ranks are joined by Gloo: as processes of one command, and as
// processes that were started one by one.

#include "parallel/gloo/transport.h"
#include "parallel/tcp/socket.h"
#include "tests/training/ranks_fixture.h"

namespace catena {
namespace {

using testing::AllOf;
using testing::HasSubstr;

class WiresCommandTest : public RanksFixture {
 protected:
  void SetUp() override {
    if (!gloo::available()) GTEST_SKIP() << "built without Gloo";
  }
  static constexpr const char* kOverGloo = "--set parallel.transport=gloo ";

  /// What tells a process that it is a rank, as the environment does.
  [[nodiscard]] std::string told(int rank, int ranks) const {
    return fmt::format(
        "export CATENA_RANK={} CATENA_WORLD_SIZE={} "
        "CATENA_RENDEZVOUS=127.0.0.1:{} CATENA_TOKEN=0123456789abcdef;",
        rank, ranks, port_);
  }
  static std::string name_of(int rank) { return fmt::format("{}-", rank); }
  std::vector<pid_t> start_all(int ranks, const std::string& arguments) const {
    std::vector<pid_t> processes;
    for (int rank = 0; rank < ranks; ++rank) {
      processes.push_back(start(arguments, told(rank, ranks), name_of(rank)));
    }
    return processes;
  }
  std::vector<Outcome> wait_for_all(const std::vector<pid_t>& ranks) const {
    std::vector<Outcome> outcomes;
    for (std::size_t rank = 0; rank < ranks.size(); ++rank) {
      outcomes.push_back(wait(ranks[rank], name_of(static_cast<int>(rank))));
    }
    return outcomes;
  }
  /// Four ranks, which come to their end, of which each two share memory.
  std::vector<Outcome> by_two_nodes(const std::string& arguments) const {
    std::vector<pid_t> processes;
    for (int rank = 0; rank < 4; ++rank) {
      processes.push_back(
          start(arguments,
                told(rank, 4) + fmt::format("export CATENA_NODE={};", rank / 2),
                name_of(rank)));
    }
    auto outcomes = wait_for_all(processes);
    for (const Outcome& outcome : outcomes) {
      EXPECT_EQ(outcome.code, 0) << outcome.err;
    }
    return outcomes;
  }

  /// A folder that stands for the machine of one rank, with the data in it.
  [[nodiscard]] fs::path machine(int rank) const {
    fs::path place = folder_ / fmt::format("machine-{}", rank);
    if (fs::create_directories(place)) {
      fs::create_symlink(fs::path(CATENA_SOURCE_DIR) / "data", place / "data");
    }
    return place;
  }
  /// Two ranks, each in its machine's folder.
  std::vector<pid_t> start_on_machines(const std::string& arguments) const {
    std::vector<pid_t> processes;
    for (const int rank : {0, 1}) {
      processes.push_back(start(
          arguments,
          told(rank, 2) + fmt::format(" cd '{}';", machine(rank).string()),
          name_of(rank)));
    }
    return processes;
  }
  /// Of two ranks, both say what rank 1 has that rank 0 has not.
  void expect_another(const char* what, const std::vector<pid_t>& ranks) const {
    const auto outcomes = wait_for_all(ranks);
    // One may hear of it before it has seen it.
    EXPECT_TRUE(outcomes[0].code == 78 || outcomes[1].code == 78);
    for (const Outcome& outcome : outcomes) {
      EXPECT_THAT(outcome.err, HasSubstr(fmt::format(
                                   "rank 1 has another {} than rank 0", what)));
    }
  }

  const int port_ = tcp::port_of(tcp::listen_at("127.0.0.1", 0));
};

TEST_F(WiresCommandTest, ProcessesOverGlooTrainAsOneRankDoes) {
  ASSERT_EQ(run(by(1, 0, "one")).code, 0);
  for (const int ranks : {2, 4}) {
    const std::string name = fmt::format("run-{}", ranks);
    SCOPED_TRACE(name);
    const Outcome outcome = run(by(ranks, 2, name, kOverGloo));
    ASSERT_EQ(outcome.code, 0) << outcome.err;
    EXPECT_THAT(outcome.err,
                HasSubstr(fmt::format(
                    "ranks    {} over Gloo over TCP, 127.0.0.1", ranks)));
    expect_same_run(name, "one");
  }
  expect_nothing_left();
}

TEST_F(WiresCommandTest, AKilledRankOverGlooEndsAllWithOneMessage) {
  const pid_t parent = start(
      by(2, 2, "run", std::string(kOverGloo) + "--set train.steps=100000"));
  wait_for_step("run", 5);
  const auto ranks = children_of(parent);
  ASSERT_EQ(ranks.size(), 2U);
  ::kill(ranks[1], SIGKILL);
  const Outcome outcome = wait(parent);
  EXPECT_EQ(outcome.code, 128 + SIGKILL) << outcome.err;
  EXPECT_THAT(outcome.err,
              AllOf(HasSubstr("error: rank 1: was killed by signal 9"),
                    HasSubstr("rank 0 noticed: rank 1 has died")));
  EXPECT_EQ(errors_in(outcome.err), 1) << outcome.err;
  EXPECT_NE(::kill(ranks[0], 0), 0);
  expect_nothing_left();
}

TEST_F(WiresCommandTest, WhereARankWasMissedOverGlooIsNamed) {
  expect_place_named(SIGKILL, kOverGloo);
  expect_place_named(SIGSTOP, kOverGloo);
}

TEST_F(WiresCommandTest, AStoppedRankOverGlooEndsAllAtTheDeadline) {
  const pid_t parent = start(by(2, 2, "run", std::string(kOverGloo) + kMissed));
  wait_for_step("run", 5);
  const auto ranks = children_of(parent);
  ASSERT_EQ(ranks.size(), 2U);
  ::kill(ranks[1], SIGSTOP);
  const Outcome outcome = wait(parent);
  EXPECT_EQ(outcome.code, 70) << outcome.err;
  EXPECT_THAT(outcome.err, HasSubstr("has waited 2 s for rank 1 in"));
  EXPECT_EQ(errors_in(outcome.err), 1) << outcome.err;
  expect_nothing_left();
}

TEST_F(WiresCommandTest, ASignalStopsAllRanksOverGlooAndTheyGoOn) {
  const std::string more =
      std::string(kOverGloo) + "--set train.steps=40 --set checkpoint.every=0 ";
  ASSERT_EQ(run(by(2, 2, "whole", more)).code, 0);
  const pid_t parent = start(by(2, 2, "run", more));
  wait_for_step("run", 5);
  ::kill(parent, SIGTERM);
  const Outcome stopped = wait(parent);
  EXPECT_EQ(stopped.code, 75) << stopped.err;
  const Outcome resumed = run(by(2, 2, "run", more + "--resume"));
  ASSERT_EQ(resumed.code, 0) << resumed.err;
  EXPECT_EQ(state("run"), state("whole"));
}

TEST_F(WiresCommandTest, RanksThatAreStartedOneByOneTrainAsOneRankDoes) {
  ASSERT_EQ(run(by(1, 0, "one")).code, 0);
  for (const char* transport : {"auto", "shared_memory"}) {
    SCOPED_TRACE(transport);
    const auto outcomes = wait_for_all(start_all(
        3, rank_of(3, transport,
                   fmt::format("--set parallel.transport={}", transport))));
    for (const Outcome& outcome : outcomes) {
      EXPECT_EQ(outcome.code, 0) << outcome.err;
    }
    EXPECT_THAT(outcomes[0].err,
                AllOf(HasSubstr("ranks    3 over"), HasSubstr("results in")));
    EXPECT_EQ(outcomes[1].err, "");
    EXPECT_TRUE(fs::exists(folder_ / transport / "ranks" / "2" / "log.txt"));
    expect_same_run(transport, "one");
  }
  expect_nothing_left();
}

// Between relays by TCP, and inside the nodes by shared memory.
TEST_F(WiresCommandTest, CrossingBetweenTwoNodesOnceTrainsAsOneRankDoes) {
  ASSERT_EQ(run(by(1, 0, "one")).code, 0);
  const std::string crossing = "--set parallel.hierarchical=true ";
  by_two_nodes(rank_of(4, "run", crossing));
  expect_same_run("run", "one");
  by_two_nodes(
      rank_of(4, "rounds", crossing + "--set parallel.row_budget=0.4"));
  expect_same_run("rounds", "one");
  expect_nothing_left();
}

TEST_F(WiresCommandTest, RanksOfTwoNodesTrainAsOneRankDoes) {
  ASSERT_EQ(run(by(1, 0, "one")).code, 0);
  ASSERT_EQ(run(by(4, 2, "shared")).code, 0);
  const auto outcomes = by_two_nodes(rank_of(2, "run"));
  EXPECT_THAT(
      outcomes[0].err,
      AllOf(HasSubstr("ranks    4 over Gloo over TCP, 127.0.0.1, between 2 "
                      "nodes of 2, shared memory inside: 2 x 2"),
            HasSubstr(", 2 a node")));
  expect_same_run("run", "one");
  EXPECT_EQ(state("run"), state("shared"));
  expect_nothing_left();
}

TEST_F(WiresCommandTest, ASignalToOneOfThemStopsAllAndTheyGoOn) {
  const std::string more = "--set train.steps=40 --set checkpoint.every=0 ";
  const auto processes = start_all(2, rank_of(2, "run", more));
  wait_for_step("run", 5);
  ::kill(processes[1], SIGTERM);
  for (const Outcome& outcome : wait_for_all(processes)) {
    EXPECT_EQ(outcome.code, 75) << outcome.err;
  }
  for (const Outcome& outcome :
       wait_for_all(start_all(2, rank_of(2, "run", more + "--resume")))) {
    EXPECT_EQ(outcome.code, 0) << outcome.err;
  }
  EXPECT_EQ(result("run")["state"], "succeeded");
  EXPECT_FALSE(fs::exists(folder_ / "run-2")) << "another run was begun";
}

TEST_F(WiresCommandTest, OneOfThemThatIsKilledEndsAllByName) {
  const auto processes =
      start_all(3, rank_of(3, "run", "--set train.steps=100000"));
  wait_for_step("run", 5);
  ::kill(processes[1], SIGKILL);
  const auto outcomes = wait_for_all(processes);
  EXPECT_EQ(outcomes[1].code, 128 + SIGKILL);
  for (const std::size_t rank : {0U, 2U}) {
    EXPECT_EQ(outcomes[rank].code, 70);
    EXPECT_THAT(outcomes[rank].err, HasSubstr("rank 1 has died"));
  }
  EXPECT_THAT(outcomes[2].err, HasSubstr("rank 2: error: "));
  expect_nothing_left();
}

TEST_F(WiresCommandTest, WhoIsMissingIsNamed) {
  const auto outcomes = wait_for_all({start(
      rank_of(2, "run", "--set parallel.timeout=1"), told(0, 2), name_of(0))});
  EXPECT_EQ(outcomes[0].code, 69);
  EXPECT_THAT(outcomes[0].err,
              HasSubstr("error: 1 of 2 ranks have not come within 1 s: rank "
                        "1;"));
  const Outcome alone =
      wait(start(rank_of(2, "run", "--set parallel.timeout=1"), told(1, 2)));
  EXPECT_EQ(alone.code, 69);
  EXPECT_THAT(alone.err, HasSubstr("does rank 0 run?"));
  EXPECT_FALSE(fs::exists(folder_ / "run"));
}

TEST_F(WiresCommandTest, AnotherTokenIsRefused) {
  const std::string arguments = rank_of(2, "run", "--set parallel.timeout=3");
  const auto outcomes = wait_for_all(
      {start(arguments, told(0, 2), name_of(0)),
       start(arguments, told(1, 2) + "export CATENA_TOKEN=fedcba9876543210;",
             name_of(1))});
  EXPECT_EQ(outcomes[0].code, 69);
  EXPECT_THAT(outcomes[0].err,
              AllOf(HasSubstr("it does not know the token"),
                    HasSubstr("have not come within 3 s: rank 1;")));
  EXPECT_EQ(outcomes[1].code, 78);
  EXPECT_THAT(outcomes[1].err, HasSubstr("its token is not this one's"));
  EXPECT_FALSE(fs::exists(folder_ / "run"));
}

TEST_F(WiresCommandTest, ARankThatIsThereTwiceIsRefusedAndTheRunGoesOn) {
  const std::string arguments = rank_of(2, "run");
  const auto outcomes =
      wait_for_all({start(arguments, told(0, 2), name_of(0)),
                    start(arguments, told(1, 2), name_of(1)),
                    start(arguments, told(1, 2), name_of(2))});
  EXPECT_EQ(outcomes[0].code, 0) << outcomes[0].err;
  const bool first = outcomes[1].code == 0;
  EXPECT_EQ(outcomes[first ? 1 : 2].code, 0);
  EXPECT_EQ(outcomes[first ? 2 : 1].code, 78);
  EXPECT_THAT(outcomes[first ? 2 : 1].err,
              HasSubstr("rank 1: error: rank 1 is there already (process "));
}

TEST_F(WiresCommandTest, AnotherConfigurationIsRefused) {
  expect_another("configuration",
                 {start(rank_of(2, "run"), told(0, 2), name_of(0)),
                  start(rank_of(2, "run", "--set optimizer.beta1=0.5"),
                        told(1, 2), name_of(1))});
}

TEST_F(WiresCommandTest, AnotherWayOfLaunchingIsNoOtherConfiguration) {
  const auto outcomes =
      wait_for_all({start(rank_of(2, "run"), told(0, 2), name_of(0)),
                    start(rank_of(2, "run", "--set launch.max_restarts=7"),
                          told(1, 2), name_of(1))});
  EXPECT_EQ(outcomes[0].code, 0) << outcomes[0].err;
  EXPECT_EQ(outcomes[1].code, 0) << outcomes[1].err;
}

// The same words in the configuration, and another file under its name.
TEST_F(WiresCommandTest, AnotherDataSetIsRefused) {
  const std::string rows =
      read_file(fs::path(CATENA_SOURCE_DIR) / "data/quickstart/val.jsonl");
  const std::size_t half = rows.find('\n', rows.size() / 2) + 1;
  for (const int rank : {0, 1}) {
    write_file_atomically(machine(rank) / "mine.jsonl",
                          rank == 0 ? rows.substr(0, half) : rows.substr(half));
  }
  expect_another("data.train", start_on_machines(rank_of(
                                   2, "run", "--set data.train=mine.jsonl")));
}

// It makes another data set of the same text, which is not what is named.
TEST_F(WiresCommandTest, AnotherTokenizerIsRefused) {
  std::string tokenizer =
      read_file(fs::path(CATENA_SOURCE_DIR) / "data/quickstart/tokenizer.json");
  const std::string first_merge = "\"\u0120 t\",";
  for (const int rank : {0, 1}) {
    if (rank == 1) {
      const std::size_t at =
          tokenizer.find(first_merge, tokenizer.find("\"merges\""));
      ASSERT_NE(at, std::string::npos);
      tokenizer.erase(at, first_merge.size());
    }
    write_file_atomically(machine(rank) / "mine.json", tokenizer);
  }
  expect_another(
      "data.tokenizer",
      start_on_machines(rank_of(2, "run", "--set data.tokenizer=mine.json")));
}

TEST_F(WiresCommandTest, AnotherProgramIsRefused) {
  const fs::path other = folder_ / "catena-train";
  fs::copy_file(fs::path(CATENA_BINARY_DIR) / "catena-train", other);
  std::ofstream(other, std::ios::app) << '\0';
  expect_another("program",
                 {start(rank_of(2, "run"), told(0, 2), name_of(0)),
                  start(rank_of(2, "run"),
                        told(1, 2) + fmt::format("export CATENA_TRAIN='{}';",
                                                 other.string()),
                        name_of(1))});
}

TEST_F(WiresCommandTest, AFolderThatIsNotSharedIsRefused) {
  const auto outcomes = wait_for_all(
      start_on_machines("train ../tiny.toml --set run.folder=run"));
  EXPECT_EQ(outcomes[1].code, 78);
  EXPECT_THAT(outcomes[1].err,
              HasSubstr("rank 1 does not see what rank 0 wrote to run: all "
                        "ranks need the same run.folder"));
  EXPECT_THAT(outcomes[0].err, HasSubstr("rank 1 gave up: "));
  EXPECT_FALSE(fs::exists(folder_ / "machine-0" / "run"));
}

TEST_F(WiresCommandTest, ARankIsTracedWhereOthersAreNot) {
  const std::string arguments =
      rank_of(2, "run", fmt::format("{} --set train.steps=4", kOverGloo));
  const std::vector<pid_t> processes = {
      start(arguments + " --trace steps=2:3", told(0, 2), name_of(0)),
      start(arguments, told(1, 2), name_of(1))};
  for (const Outcome& outcome : wait_for_all(processes)) {
    EXPECT_EQ(outcome.code, 0) << outcome.err;
  }
  EXPECT_TRUE(fs::exists(folder_ / "run/trace/rank-0.json"));
  EXPECT_FALSE(fs::exists(folder_ / "run/trace/rank-1.json"));
}

TEST_F(WiresCommandTest, WhatIsMissingIsNamedBeforeAnythingIsMade) {
  expect_refused(rank_of(2, "run", "--rank 0 --world-size 2"), 64,
                 "CATENA_RENDEZVOUS (--rendezvous)");
  expect_refused(rank_of(2, "run", "--rank=-1"), 64, "--rank");
  expect_refused(rank_of(2, "run", "--set parallel.transport=mpi --ranks 2"),
                 64, "neither mpirun nor srun started this process");
  EXPECT_FALSE(fs::exists(folder_ / "run"));
}

}  // namespace
}  // namespace catena
