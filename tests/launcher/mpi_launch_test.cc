// `catena launch --engine mpi` by the real mpirun; a shell script plays the
// ranks. Real ranks: tests/training/mpi_launch_test.cc.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "launcher/binding.h"
#include "runtime/base/machine.h"
#include "tests/launcher/launched.h"

namespace catena::launcher {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

class MpiLaunchTest : public Launched {
 protected:
  /// With $RANK from mpirun; what goes to standard output is said.
  void ranks_do(const std::string& script) const {
    Launched::ranks_do("RANK=$OMPI_COMM_WORLD_RANK\necho $$ >> $RUN/pids\n" +
                       script);
  }
  [[nodiscard]] Program start(std::vector<std::string> more) const {
    more.insert(more.end(), {"--engine", "mpi"});
    return Launched::start(
        more, {"OMPI_ALLOW_RUN_AS_ROOT=1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1"});
  }
  [[nodiscard]] Outcome launch(std::vector<std::string> more) const {
    return start(std::move(more)).wait();
  }
  [[nodiscard]] std::string log_of(const std::string& name) const {
    return read_file(run() / "logs" / (name + ".log"));
  }
};

TEST_F(MpiLaunchTest, MpirunOwnsTheRanksAndTheirWordsCome) {
  ranks_do(R"(
echo "$RANK of $OMPI_COMM_WORLD_SIZE in $CATENA_GENERATION for $X" >&2
[ "$CATENA_RUN_DIR" = $RUN ] || exit 1
[ -z "$CATENA_TOKEN$CATENA_RANK" ] || exit 2
say joined; say "step 3"; say "step 4"; say done)");
  for (const int ranks : {2, 4}) {
    SCOPED_TRACE(ranks);
    std::filesystem::remove_all(run());
    const Outcome outcome =
        launch({"-n", fmt::format("{}", ranks), "--env", "X=a b"});
    EXPECT_EQ(outcome.code, 0) << outcome.error;
    EXPECT_EQ(result()["state"], "SUCCEEDED");
    EXPECT_EQ(result()["ranks"], ranks);
    EXPECT_EQ(result()["last_step"], 4);
    for (const auto& state : result()["rank_states"]) EXPECT_EQ(state, "done");
    EXPECT_THAT(
        log_of(fmt::format("rank-{}", ranks - 1)),
        HasSubstr(fmt::format("\n{} of {} in 1 for a b\n", ranks - 1, ranks)));
    EXPECT_THAT(outcome.error,
                AllOf(HasSubstr("\n0 of"), Not(HasSubstr("\n1 of")),
                      Not(HasSubstr("step 3"))));
    expect_none_left();
  }
}

TEST_F(MpiLaunchTest, EnvironmentAndArgumentsComeByteForByte) {
  ranks_do(keep_what_came() + "say joined; say done");
  const std::vector<std::string> flags = random_flags(100);
  std::vector<std::string> more = {"-n", "2"};
  more.insert(more.end(), flags.begin(), flags.end());
  const Outcome outcome = launch(more);
  ASSERT_EQ(outcome.code, 0) << outcome.error;
  for (const int rank : {0, 1}) expect_came(flags, rank);
}

TEST_F(MpiLaunchTest, RanksAreBoundAsByOtherEngines) {
  const Machine machine = machine_here();
  const int cores = static_cast<int>(machine.cores.size());
  if (cores > 8) GTEST_SKIP() << "this machine has many cores: " << cores;
  ranks_do(R"(
list=$(grep Cpus_allowed_list /proc/self/status)
echo "$list for $CATENA_CORE_SHARERS." >&2
say joined; say done)");
  for (const int ranks : {std::min(cores, 2), cores + 1}) {
    SCOPED_TRACE(ranks);
    std::filesystem::remove_all(run());
    const Outcome outcome =
        launch({"-n", fmt::format("{}", ranks), "--bind", "core"});
    EXPECT_EQ(outcome.code, 0) << outcome.error;
    const Binding binding = bind_ranks(machine, Bind::kCore, ranks);
    for (int rank = 0; rank < ranks; ++rank) {
      const std::string list =
          ranks > cores
              ? core_list() + " for ."
              : list_text(binding.places.at(static_cast<std::size_t>(rank))
                              .processors) +
                    " for 1.";
      EXPECT_THAT(log_of(fmt::format("rank-{}", rank)),
                  HasSubstr("list:\t" + list + "\n"));
    }
    const auto said = outcome.error.find("they are not bound");
    EXPECT_EQ(said != std::string::npos, ranks > cores) << outcome.error;
  }
}

TEST_F(MpiLaunchTest, AKilledRankIsNamedAndAllStartAgain) {
  ranks_do(R"(
say joined; say "step 3"
if [ $CATENA_GENERATION = 1 ]; then
  [ $RANK = 1 ] && { echo "last words" >&2; sleep 0.3; kill -9 $$; }
  exec sleep 100
fi
say done)");
  const Outcome outcome = launch({"-n", "3"});
  EXPECT_EQ(outcome.code, 0) << outcome.error;
  ASSERT_EQ(result()["restarts"].size(), 1U);
  const auto cause = result()["restarts"][0];
  EXPECT_EQ(cause["signal"], SIGKILL);
  // Seldom, it does not say whose that was.
  if (log_of("mpirun").find("process rank 1 with") != std::string::npos) {
    EXPECT_EQ(cause["rank"], 1);
    EXPECT_EQ(cause["last_words"], "last words");
  }
  EXPECT_EQ(result()["generation"], 2);
  expect_none_left();
}

TEST_F(MpiLaunchTest, CodesAreThoseOfTheRankThatFailedFirst) {
  ranks_do(R"(say joined; [ $RANK = 1 ] && exit 78; exec sleep 100)");
  const Outcome refused = launch({"-n", "2"});
  EXPECT_EQ(refused.code, kExitConfig) << refused.error;
  EXPECT_EQ(result()["restarts"].size(), 0U);
  ranks_do("say joined; say 'step 1'; exit 0");
  const Outcome early = launch({"-n", "2", "--max-restarts", "0"});
  EXPECT_EQ(early.code, kExitInternal);
  EXPECT_THAT(early.error, HasSubstr("before its work was done"));
  expect_none_left();
}

TEST_F(MpiLaunchTest, ThreeStartsWithoutACheckpointAreEnough) {
  ranks_do("say joined; exit 3");
  const Outcome outcome = launch({"-n", "2", "--max-restarts", "9"});
  EXPECT_EQ(outcome.code, kExitNoProgress) << outcome.error;
  EXPECT_EQ(result()["generation"], 3);
}

TEST_F(MpiLaunchTest, ASignalAsksAllRanksToSave) {
  ranks_do(R"(
trap 'say done; exit 75' ALRM
say joined; say "step 3"; touch $RUN/ready-$RANK
while :; do sleep 0.05; done)");
  Program program = start({"-n", "2"});
  wait_for("ready-0");
  wait_for("ready-1");
  ::kill(program.process(), SIGTERM);
  const Outcome outcome = program.wait();
  EXPECT_EQ(outcome.code, kExitPreempted) << outcome.error;
  EXPECT_EQ(result()["state"], "PREEMPTED");
  expect_none_left();
}

TEST_F(MpiLaunchTest, WhoDoesNotEndIsKilled) {
  ranks_do(R"(
trap '' ALRM
say joined; touch $RUN/ready
exec sleep 100)");
  Program program = start({"-n", "2", "--grace-period", "0.5"});
  wait_for("ready");
  ::kill(program.process(), SIGTERM);
  EXPECT_EQ(program.wait().code, 128 + SIGTERM);
  expect_none_left();
}

TEST_F(MpiLaunchTest, ARankThatHangsIsTheCause) {
  ranks_do(R"(
say "section start"; say joined; say "section step"
[ $CATENA_GENERATION = 2 ] && { say done; exit 0; }
trap '' USR2
while [ $RANK != 1 ]; do say "waits 1 all_reduce"; sleep 0.2; done
exec sleep 100)");
  const Outcome outcome = launch({"-n", "2", "--section-timeout", "1.5"});
  EXPECT_EQ(outcome.code, 0) << outcome.error;
  ASSERT_EQ(result()["restarts"].size(), 1U);
  EXPECT_EQ(result()["restarts"][0]["rank"], 1);
  EXPECT_EQ(result()["restarts"][0]["hung"], true);
  expect_none_left();
}

TEST_F(MpiLaunchTest, WhatMpirunCannotStartIsSaid) {
  ranks_do("exit 0");
  const Outcome outcome = launch(
      {"-n", "2", "--hosts", "no.such.host.invalid", "--max-restarts", "0"});
  EXPECT_EQ(outcome.code, kExitNotAssembled) << outcome.error;
  EXPECT_THAT(outcome.error, HasSubstr("could not be started"));
}

TEST_F(MpiLaunchTest, WhatItCannotDoIsRefused) {
  ranks_do("");
  EXPECT_EQ(launch({"--agents", "2"}).code, kExitUsage);
  EXPECT_EQ(launch({"--hosts", "a,b", "--nnodes", "1:2"}).code, kExitUsage);
  EXPECT_EQ(launch({"--hosts", "me@a", "--max-restarts", "0"}).code,
            kExitUsage);
  const Outcome plan = launch({"-n", "3", "--dry-run", "--json"});
  EXPECT_EQ(json_of(plan.output)["engine"], "mpi");
  EXPECT_EQ(json_of(plan.output)["ranks"].size(), 3U);
}

}  // namespace
}  // namespace catena::launcher
