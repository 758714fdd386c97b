// Runs whose ranks mpirun starts, 2 and 4 of them.

#include <utility>

#include "tests/training/ranks_fixture.h"

namespace catena {
namespace {

using testing::HasSubstr;

class MpiCommandTest : public RanksFixture,
                       public testing::WithParamInterface<int> {
 protected:
  MpiCommandTest() {
    under_ = fmt::format(
        "{} -n {} --oversubscribe --allow-run-as-root --bind-to none",
        CATENA_MPIRUN, size());
  }
  static int size() { return GetParam(); }
  static std::size_t last() { return static_cast<std::size_t>(size() - 1); }
  /// A rank of such a run, experts over all.
  [[nodiscard]] std::string rank(const std::string& more = "") const {
    return rank_of(size(), "run", more);
  }
  /// Of the run that `parent` started.
  static std::vector<pid_t> ranks_of(pid_t parent) {
    auto ranks = children_of(parent);
    EXPECT_EQ(ranks.size(), static_cast<std::size_t>(size()));
    ranks.resize(static_cast<std::size_t>(size()));
    return ranks;
  }
  /// A program without mpirun.
  Outcome alone(const std::string& arguments) {
    const std::string under = std::exchange(under_, "");
    const Outcome outcome = run(arguments);
    under_ = under;
    return outcome;
  }
};

TEST_P(MpiCommandTest, TrainsAsOneRankDoes) {
  ASSERT_EQ(alone(by(1, 0, "one")).code, 0);
  const Outcome outcome = run(rank());
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_THAT(outcome.err,
              HasSubstr(fmt::format("ranks    {} over Open MPI", size())));
  EXPECT_TRUE(fs::exists(folder_ / "run" / "ranks" / fmt::format("{}", last()) /
                         "log.txt"));
  expect_same_run("run", "one");
}

TEST_P(MpiCommandTest, ASignalToOneRankStopsAllAndSaves) {
  const std::string more = "--set train.steps=40 --set checkpoint.every=0 ";
  const pid_t parent = start(rank(more));
  wait_for_step("run", 5);
  const auto ranks = ranks_of(parent);
  ::kill(ranks[last()], SIGTERM);
  const Outcome stopped = wait(parent);
  EXPECT_EQ(stopped.code, 75) << stopped.err;
  EXPECT_EQ(result("run")["state"], "stopped");
  const Outcome resumed = run(rank(more + "--resume"));
  EXPECT_EQ(resumed.code, 0) << resumed.err;
  EXPECT_EQ(result("run")["state"], "succeeded");
}

TEST_P(MpiCommandTest, AKilledRankEndsAll) {
  const pid_t parent = start(rank("--set train.steps=100000"));
  wait_for_step("run", 5);
  const auto ranks = ranks_of(parent);
  ::kill(ranks[last()], SIGKILL);
  const Outcome outcome = wait(parent);
  EXPECT_EQ(outcome.code, 128 + SIGKILL) << outcome.err;
  // Seldom, mpirun does not say whose that was.
  if (outcome.err.find("process rank ") != std::string::npos) {
    EXPECT_THAT(outcome.err,
                testing::ContainsRegex(fmt::format(
                    "process rank {} .* exited on signal 9", last())));
  }
  wait_until("the end of the others", [&] {
    return std::all_of(ranks.begin(), ranks.end(),
                       [](pid_t rank) { return ::kill(rank, 0) != 0; });
  });
  expect_nothing_left();
}

TEST_P(MpiCommandTest, AStoppedRankEndsAllAtTheDeadline) {
  const pid_t parent = start(rank(kMissed));
  wait_for_step("run", 5);
  const auto ranks = ranks_of(parent);
  ::kill(ranks[last()], SIGSTOP);
  const Outcome outcome = wait(parent);
  EXPECT_EQ(outcome.code, 70) << outcome.err;
  EXPECT_THAT(outcome.err, HasSubstr(fmt::format("for rank {} in", last())));
  expect_nothing_left();
}

TEST_P(MpiCommandTest, WhereAStoppedRankWasMissedIsNamed) {
  expect_place_named(SIGSTOP, static_cast<std::size_t>(size()),
                     [&](const std::string& run) {
                       return start(rank_of(size(), run, kMissed));
                     });
}

// To mpirun, what follows a colon is another program with words of its own.
TEST_P(MpiCommandTest, ARankWithAnotherConfigurationIsRefused) {
  const Outcome outcome =
      run(rank_of(1, "run") +
          fmt::format(" : -n 1 '{}/catena' {}", CATENA_BINARY_DIR,
                      rank_of(1, "run", "--set optimizer.beta1=0.5")));
  EXPECT_EQ(outcome.code, 78) << outcome.err;
  EXPECT_THAT(outcome.err,
              HasSubstr(fmt::format(
                  "rank {} has another configuration than rank 0", size())));
}

TEST_P(MpiCommandTest, WhatIsRefusedHasItsCode) {
  const Outcome layout = run(rank_of(3, "run"));
  EXPECT_EQ(layout.code, 78) << layout.err;
  EXPECT_THAT(layout.err,
              HasSubstr(fmt::format("{} ranks do not divide into groups of 3",
                                    size())));
  const Outcome data = run(rank("--set data.train=/nowhere.jsonl"));
  EXPECT_EQ(data.code, 65) << data.err;
  EXPECT_THAT(data.err, HasSubstr("/nowhere.jsonl"));
  EXPECT_FALSE(fs::exists(folder_ / "run"));
}

INSTANTIATE_TEST_SUITE_P(Ranks, MpiCommandTest, testing::Values(2, 4));

}  // namespace
}  // namespace catena
