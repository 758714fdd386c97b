// Runs whose ranks mpirun starts.

#include <utility>

#include "tests/training/ranks_fixture.h"

namespace catena {
namespace {

using testing::HasSubstr;

class MpiCommandTest : public RanksFixture {
 protected:
  MpiCommandTest() {
    under_ = CATENA_MPIRUN
        " -n 2 --oversubscribe --allow-run-as-root --bind-to none";
  }
  /// A program without mpirun.
  Outcome alone(const std::string& arguments) {
    const std::string under = std::exchange(under_, "");
    const Outcome outcome = run(arguments);
    under_ = under;
    return outcome;
  }
};

TEST_F(MpiCommandTest, TrainsAsOneRankDoes) {
  ASSERT_EQ(alone(by(1, 0, "one")).code, 0);
  const Outcome outcome = run(rank_of(2, "run"));
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_THAT(outcome.err, HasSubstr("ranks    2 over Open MPI"));
  EXPECT_TRUE(fs::exists(folder_ / "run" / "ranks" / "1" / "log.txt"));
  expect_same_run("run", "one");
}

TEST_F(MpiCommandTest, ASignalToOneRankStopsAllAndSaves) {
  const std::string more = "--set train.steps=40 --set checkpoint.every=0 ";
  const pid_t parent = start(rank_of(2, "run", more));
  wait_for_step("run", 5);
  const auto ranks = children_of(parent);
  ASSERT_EQ(ranks.size(), 2U);
  ::kill(ranks[1], SIGTERM);
  const Outcome stopped = wait(parent);
  EXPECT_EQ(stopped.code, 75) << stopped.err;
  EXPECT_EQ(result("run")["state"], "stopped");
  const Outcome resumed = run(rank_of(2, "run", more + "--resume"));
  EXPECT_EQ(resumed.code, 0) << resumed.err;
  EXPECT_EQ(result("run")["state"], "succeeded");
}

TEST_F(MpiCommandTest, AKilledRankEndsAll) {
  const pid_t parent = start(rank_of(2, "run", "--set train.steps=100000"));
  wait_for_step("run", 5);
  const auto ranks = children_of(parent);
  ASSERT_EQ(ranks.size(), 2U);
  ::kill(ranks[1], SIGKILL);
  const Outcome outcome = wait(parent);
  EXPECT_EQ(outcome.code, 128 + SIGKILL) << outcome.err;
  wait_until("the end of the other", [&] { return ::kill(ranks[0], 0) != 0; });
}

TEST_F(MpiCommandTest, AStoppedRankEndsAllAtTheDeadline) {
  const pid_t parent = start(
      rank_of(2, "run", "--set train.steps=100000 --set parallel.timeout=2"));
  wait_for_step("run", 5);
  const auto ranks = children_of(parent);
  ASSERT_EQ(ranks.size(), 2U);
  ::kill(ranks[1], SIGSTOP);
  const Outcome outcome = wait(parent);
  EXPECT_EQ(outcome.code, 70) << outcome.err;
  EXPECT_THAT(outcome.err, HasSubstr("has waited 2 s for rank 1 in"));
}

TEST_F(MpiCommandTest, WhatIsRefusedHasItsCode) {
  const Outcome layout = run(rank_of(3, "run"));
  EXPECT_EQ(layout.code, 78) << layout.err;
  EXPECT_THAT(layout.err, HasSubstr("2 ranks do not divide into groups of 3"));
  const Outcome data =
      run(rank_of(2, "run", "--set data.train=/nowhere.jsonl"));
  EXPECT_EQ(data.code, 65) << data.err;
  EXPECT_THAT(data.err, HasSubstr("/nowhere.jsonl"));
  EXPECT_FALSE(fs::exists(folder_ / "run"));
}

}  // namespace
}  // namespace catena
