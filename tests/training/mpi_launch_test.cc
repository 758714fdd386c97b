// Real runs under `catena launch --engine mpi`: mpirun owns the ranks.

#include <signal.h>

#include "tests/training/ranks_fixture.h"

namespace catena {
namespace {

using testing::HasSubstr;

constexpr const char* kAsRoot =
    "export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1;";

class MpiLaunchTest : public RanksFixture,
                      public testing::WithParamInterface<int> {
 protected:
  static int size() { return GetParam(); }
  [[nodiscard]] std::string launched(const std::string& run,
                                     const std::string& more = "") const {
    const std::string train =
        rank_of(size(), run, "--set train.steps=36 --set checkpoint.every=6");
    return fmt::format("launch --engine mpi -n {} {} {}", size(),
                       train.substr(std::string("train ").size()), more);
  }
  [[nodiscard]] nlohmann::json job(const std::string& run) const {
    return json_of(read_file(folder_ / run / "job.json"));
  }
  /// mpirun's children are the ranks. Throws: where there are others.
  static std::vector<pid_t> ranks_of(pid_t launcher) {
    const auto mpirun = children_of(launcher);
    auto ranks = mpirun.size() == 1 ? children_of(mpirun.front()) : mpirun;
    if (ranks.size() != static_cast<std::size_t>(size())) {
      throw std::runtime_error("these are not mpirun's ranks");
    }
    return ranks;
  }
};

TEST_P(MpiLaunchTest, AKilledRankIsStartedAgainAndTheBitsAreTheSame) {
  const Outcome undisturbed = run(launched("whole"), kAsRoot);
  ASSERT_EQ(undisturbed.code, 0) << undisturbed.err;
  EXPECT_THAT(undisturbed.err,
              HasSubstr(fmt::format("ranks    {} over Open MPI", size())));
  const pid_t launcher = start(launched("run"), kAsRoot);
  wait_for_step("run", 14);
  ::kill(ranks_of(launcher).back(), SIGKILL);
  const Outcome outcome = wait(launcher);
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  ASSERT_EQ(job("run")["restarts"].size(), 1U);
  EXPECT_EQ(job("run")["restarts"][0]["signal"], SIGKILL);
  EXPECT_EQ(state("run"), state("whole"));
  EXPECT_EQ(losses("run"), losses("whole"));
}

TEST_P(MpiLaunchTest, ASignalSavesAndResumeGoesOn) {
  const pid_t launcher = start(
      launched("run", "--set checkpoint.every=0 --set train.steps=100000"),
      kAsRoot);
  wait_for_step("run", 10);
  ::kill(launcher, SIGTERM);
  const Outcome stopped = wait(launcher);
  EXPECT_EQ(stopped.code, 75) << stopped.err;
  EXPECT_EQ(job("run")["state"], "PREEMPTED");
  EXPECT_EQ(result("run")["state"], "stopped");
  const auto saved = newest_checkpoint(checkpoints("run"));
  ASSERT_TRUE(saved.has_value());
  const Outcome resumed = run(
      launched("run",
               fmt::format("--resume --set train.steps={}", saved->step + 5)),
      kAsRoot);
  EXPECT_EQ(resumed.code, 0) << resumed.err;
  EXPECT_EQ(result("run")["state"], "succeeded");
}

TEST_P(MpiLaunchTest, ALauncherThatIsKilledLeavesNobody) {
  const pid_t launcher =
      start(launched("run", "--set train.steps=100000"), kAsRoot);
  wait_for_step("run", 5);
  const auto ranks = ranks_of(launcher);
  ::kill(launcher, SIGKILL);
  static_cast<void>(wait(launcher));
  wait_until("the end of all ranks", [&] {
    return std::all_of(ranks.begin(), ranks.end(),
                       [](pid_t rank) { return ::kill(rank, 0) != 0; });
  });
}

INSTANTIATE_TEST_SUITE_P(Ranks, MpiLaunchTest, testing::Values(2, 4));

}  // namespace
}  // namespace catena
