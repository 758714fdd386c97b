// `catena launch` in an allocation of Slurm, whose srun a shell script plays.
// By a real one: tests/system/slurm.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "launcher/binding.h"
#include "launcher/invitation.h"
#include "tests/launcher/launched.h"

namespace catena::launcher {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

class SlurmLaunchTest : public Launched {
 protected:
  /// As the real one, but on this machine; it notes what others see of it, and
  /// what it was told.
  [[nodiscard]] std::string srun_runs_here() const {
    return program_does("srun", fmt::format(R"(
echo "$@" >> {0}/srun.seen
env >> {0}/srun.seen
read -r line
echo "$line" >> {0}/srun.told
while case $1 in --*) ;; *) false;; esac; do shift; done
{{ echo "$line"; exec cat; }} | exec "$@"
)",
                                            folder_.string()));
  }
  [[nodiscard]] Outcome launch_on_two_nodes(
      std::vector<std::string> more = {}) const {
    more.insert(more.end(), {"--address", "127.0.0.1"});
    return launch(more, {srun_runs_here(), "SLURM_JOB_NODELIST=n[1-2]",
                         "SLURM_GPUS=16", "SLURM_GPUS_PER_TASK=1",
                         "SLURM_TASKS_PER_NODE=2(x2)", "SLURMD_NODENAME=n1"});
  }
};

TEST_F(SlurmLaunchTest, EachNodeGetsAnAgentByAStepOfItsOwn) {
  ranks_do(note_agent() + "say joined; say done");
  const Outcome outcome = launch_on_two_nodes();
  EXPECT_EQ(outcome.code, 0) << outcome.error;
  EXPECT_THAT(outcome.error, HasSubstr("4 ranks on n1, n2"));
  EXPECT_EQ(result()["ranks"], 4);
  EXPECT_EQ(agent_of(0), agent_of(1));
  EXPECT_NE(agent_of(1), agent_of(2));
  EXPECT_EQ(agent_of(2), agent_of(3));
  EXPECT_THAT(
      read_file(folder_ / "srun.seen"),
      AllOf(HasSubstr("--nodelist=n1 "), HasSubstr("--nodelist=n2 "),
            HasSubstr("--ntasks-per-node=1"), HasSubstr("--kill-on-bad-exit=0"),
            HasSubstr("catena agent\n"), Not(HasSubstr("SLURM_GPUS"))));
  expect_none_left();
}

TEST_F(SlurmLaunchTest, NobodyElseSeesTheSecret) {
  ranks_do("say joined; say done");
  EXPECT_EQ(launch_on_two_nodes().code, 0);
  std::istringstream told(read_file(folder_ / "srun.told"));
  std::string line;
  ASSERT_TRUE(std::getline(told, line));
  const std::string secret = read_invitation(line).secret;
  EXPECT_EQ(secret.size(), 64U);
  EXPECT_THAT(read_file(folder_ / "srun.seen"),
              AllOf(HasSubstr("SLURM_JOB_NODELIST"), Not(HasSubstr(secret))));
}

TEST_F(SlurmLaunchTest, AnAgentThatIsKilledGetsAnotherStep) {
  ranks_do(note_agent() + R"(
say joined; say "step 3"
[ $CATENA_GENERATION -ge 2 ] && { say done; exit 0; }
[ $RANK = 3 ] && kill -9 $PPID
exec sleep 100)");
  const Outcome outcome = launch({"--address", "127.0.0.1", "--lease", "3"},
                                 {srun_runs_here(), "SLURM_JOB_NODELIST=a,b-1",
                                  "SLURM_TASKS_PER_NODE=2(x2)"});
  EXPECT_EQ(outcome.code, 0) << outcome.error;
  EXPECT_THAT(outcome.error, HasSubstr("agent 1 (b-1) is started again"));
  EXPECT_GE(result()["generation"], 2);
  expect_none_left();
}

// Each of them divides what it has of its own node.
TEST_F(SlurmLaunchTest, AgentsBindRanksAndSrunDoesNot) {
  const auto cores = machine_here().cores;
  if (cores.size() < 2) GTEST_SKIP() << "this machine has one core";
  ranks_do("grep Cpus_allowed_list /proc/self/status; say joined; say done");
  const Outcome outcome = launch_on_two_nodes({"--bind", "core"});
  EXPECT_EQ(outcome.code, 0) << outcome.error;
  EXPECT_THAT(read_file(folder_ / "srun.seen"), HasSubstr("--cpu-bind=none"));
  const Binding binding = bind_ranks(machine_here(), Bind::kCore, 2);
  for (std::size_t rank = 0; rank < 4; ++rank) {
    EXPECT_THAT(
        read_file(run() / "logs" / fmt::format("rank-{}.log", rank)),
        HasSubstr("list:\t" +
                  list_text(binding.places.at(rank % 2).processors) + "\n"));
  }
}

TEST_F(SlurmLaunchTest, AnAllocationIsReadWhereItMatters) {
  ranks_do("");
  const std::string bad = "SLURM_JOB_NODELIST=n[2-1]";
  const Outcome refused = launch({"--dry-run"}, {bad});
  EXPECT_EQ(refused.code, kExitConfig);
  EXPECT_THAT(refused.error, HasSubstr("SLURM_JOB_NODELIST"));
  EXPECT_EQ(launch({"--dry-run", "--agents", "2"}, {bad}).code, 0);
  EXPECT_EQ(launch({"--dry-run", "--engine", "local"}, {bad}).code, 0);
  const Outcome here = launch({"--dry-run", "--json"},
                              {"SLURM_JOB_NODELIST=n1",
                               "SLURM_TASKS_PER_NODE=3", "SLURMD_NODENAME=n1"});
  EXPECT_EQ(json_of(here.output)["engine"], "local");
  EXPECT_EQ(json_of(here.output)["ranks"].size(), 3U);
}

}  // namespace
}  // namespace catena::launcher
