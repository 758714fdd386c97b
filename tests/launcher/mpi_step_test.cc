// What mpirun is called with, what it says, and what that means.

#include "launcher/mpi_step.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>

#include "launcher/contract.h"
#include "launcher/mpi_ending.h"
#include "launcher/restart_policy.h"
#include "runtime/base/error.h"

namespace catena::launcher {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr const char* kKilled =
    "------------------------------------------------------------------------\n"
    "mpirun noticed that process rank 1 with PID 0 on node vm exited on signal "
    "9 (Killed).\n";
constexpr const char* kEnded =
    "mpirun detected that one or more processes exited with non-zero status, "
    "thus causing\nthe job to be terminated. The first process to do so was:\n"
    "\n  Process name: [[12049,1],2]\n  Exit code:    78\n";
constexpr const char* kAborted =
    "MPI_ABORT was invoked on rank 1 in communicator MPI COMMUNICATOR 3 DUP "
    "FROM 0\nwith errorcode 70.\n";

/// As waitpid() says it.
int exited(int code) { return code << 8; }

std::map<int, RankState> ranks(int count) {
  std::map<int, RankState> result;
  for (int rank = 0; rank < count; ++rank) {
    result[rank].ending.rank = rank;
    result[rank].ending.process = 100 + rank;
  }
  return result;
}

/// The job's first cause where mpirun ends like this.
std::optional<Cause> cause_of_end(const MpiEnd& end,
                                  std::map<int, RankState> states) {
  std::vector<RankEnding> endings;
  for (const MpiEnding& ending : endings_of(end, states)) {
    RankState& state = states.at(ending.rank);
    EXPECT_TRUE(reap(state, ending.code, ending.signal, ending.words));
    endings.push_back(state.ending);
  }
  EXPECT_EQ(endings.size(), states.size());
  return first_cause(endings);
}

TEST(MpiStepTest, RanksAreLaidOnHostsInOrder) {
  const RankLayout layout =
      lay_ranks(3, {{.name = "a", .slots = 1}, {.name = "b", .slots = 2}});
  const MpiStep step{.layout = layout,
                     .here = false,
                     .command = {"/bin/t", "train"},
                     .environment = {"X"}};
  EXPECT_THAT(mpirun_arguments(step),
              ElementsAre("mpirun", "-n", "3", "--map-by", "slot", "--bind-to",
                          "none", "--tag-output", "--oversubscribe", "--host",
                          "a:1,b:2", "-x", "X", "/bin/t", "train"));
  const MpiStep here{.layout = lay_ranks(9, {{.name = "a"}}), .command = {"t"}};
  EXPECT_THAT(mpirun_arguments(here), ::testing::Contains("--oversubscribe"));
}

TEST(MpiStepTest, AUserIsRefused) {
  const MpiStep step{.layout = lay_ranks(1, {{.name = "a", .user = "me"}}),
                     .here = false};
  try {
    static_cast<void>(mpirun_arguments(step));
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kUsage);
    EXPECT_THAT(error.what(), HasSubstr("me@a"));
  }
}

TEST(MpiStepTest, LinesSayWhoseTheyAre) {
  const MpiLine output = parse_mpi_line("[1,12]<stdout>:step 3");
  EXPECT_EQ(output.rank, 12);
  EXPECT_TRUE(output.output);
  EXPECT_EQ(output.text, "step 3");
  const MpiLine error = parse_mpi_line("[1,0]<stderr>:[1,1]<stdout>:x");
  EXPECT_EQ(error.rank, 0);
  EXPECT_FALSE(error.output);
  EXPECT_EQ(error.text, "[1,1]<stdout>:x");
  for (const char* own :
       {"", "----", "[1,x]<stdout>:a", "x[1,0]<stdout>:a",
        "[1,99999999999]<stdout>:a", "[host:1] [1,0]<stderr>:"}) {
    EXPECT_EQ(parse_mpi_line(own).rank, -1) << own;
    EXPECT_EQ(parse_mpi_line(own).text, own);
  }
}

TEST(MpiStepTest, MpirunNamesTheRankThatFailed) {
  EXPECT_EQ(first_failure(kKilled)->rank, 1);
  EXPECT_EQ(first_failure(kKilled)->signal, SIGKILL);
  EXPECT_EQ(first_failure(kEnded)->rank, 2);
  EXPECT_EQ(first_failure(kEnded)->code, 78);
  EXPECT_EQ(first_failure(kAborted)->rank, 1);
  EXPECT_EQ(first_failure(kAborted)->code, 70);
  EXPECT_FALSE(first_failure("").has_value());
  EXPECT_FALSE(first_failure("There are not enough slots").has_value());
}

TEST(MpiStepTest, TheNamedRankIsTheCause) {
  const auto killed = cause_of_end(
      {.status = exited(137), .said = kKilled, .spoke = {0, 1}}, ranks(3));
  EXPECT_EQ(killed->rank, 1);
  EXPECT_EQ(killed->code, 128 + SIGKILL);
  const auto refused =
      cause_of_end({.status = exited(78), .said = kEnded}, ranks(3));
  EXPECT_EQ(refused->rank, 2);
  EXPECT_EQ(refused->code, 78);
}

TEST(MpiStepTest, WhoWaitedInVainBlamesAnother) {
  auto states = ranks(3);
  states[1].ending.lost = true;
  states[1].ending.waits_for = 2;
  const auto cause = cause_of_end(
      {.status = exited(70), .said = kAborted, .spoke = {0, 1, 2}}, states);
  EXPECT_EQ(cause->rank, 2);
  EXPECT_THAT(cause->text, HasSubstr("did not answer, and rank 1 waited"));
}

TEST(MpiStepTest, OneThatHungIsTheCauseThoughAllAreKilled) {
  auto states = ranks(3);
  states[2].ending.hung = states[2].ending.stopped = true;
  const auto cause = cause_of_end({.status = SIGKILL, .spoke = {0}}, states);
  EXPECT_EQ(cause->rank, 2);
  EXPECT_THAT(cause->text, HasSubstr("hung"));
}

TEST(MpiStepTest, WhatNeverStartedMayBeTriedAgain) {
  const auto cause = cause_of_end(
      {.status = exited(1), .said = "There are not enough slots"}, ranks(2));
  EXPECT_EQ(cause->code, kExitNotAssembled);
  EXPECT_THAT(cause->text, HasSubstr("could not be started"));
  EXPECT_THAT(cause->ending.last_words, HasSubstr("not enough slots"));
}

TEST(MpiStepTest, WithoutANameItIsTheFirstThatWasNotDone) {
  auto states = ranks(2);
  states[0].ending.done = true;
  const auto cause =
      cause_of_end({.status = exited(3), .spoke = {0, 1}}, states);
  EXPECT_EQ(cause->rank, 1);
  EXPECT_EQ(cause->code, 3);
  const auto killed =
      cause_of_end({.status = exited(137), .spoke = {0, 1}}, ranks(2));
  EXPECT_EQ(killed->rank, 0);
  EXPECT_EQ(killed->ending.signal, SIGKILL);
}

TEST(MpiStepTest, SuccessAndAStopAreOfAllRanks) {
  auto states = ranks(2);
  states[0].ending.done = states[1].ending.done = true;
  EXPECT_FALSE(cause_of_end({.status = exited(0)}, states).has_value());
  EXPECT_FALSE(cause_of_end({.status = exited(75), .said = kEnded}, ranks(2))
                   .has_value());
  EXPECT_EQ(cause_of_end({.status = exited(0)}, ranks(2))->code, 70)
      << "before its work was done";
}

}  // namespace
}  // namespace catena::launcher
