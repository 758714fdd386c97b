// Real runs under `catena launch`.

#include <signal.h>

#include "launcher/binding.h"
#include "tests/training/ranks_fixture.h"

namespace catena {
namespace {

using testing::ContainsRegex;
using testing::HasSubstr;

class LaunchCommandTest : public RanksFixture {
 protected:
  [[nodiscard]] std::string launched(int ranks, const std::string& run,
                                     const std::string& more = "") const {
    const std::string train =
        rank_of(ranks, run, "--set train.steps=60 --set checkpoint.every=10");
    return fmt::format("launch -n {} {} {}", ranks,
                       train.substr(std::string("train ").size()), more);
  }
  [[nodiscard]] nlohmann::json job(const std::string& run) const {
    return json_of(read_file(folder_ / run / "job.json"));
  }
};

TEST_F(LaunchCommandTest, AKilledRankIsStartedAgainAndTheBitsAreTheSame) {
  for (const int ranks : {1, 3}) {
    const std::string whole = fmt::format("whole-{}", ranks);
    const Outcome undisturbed = run(launched(ranks, whole));
    ASSERT_EQ(undisturbed.code, 0) << undisturbed.err;
    const std::string name = fmt::format("run-{}", ranks);
    const pid_t launcher = start(launched(ranks, name));
    wait_for_step(name, 25);
    const auto processes = children_of(launcher);
    ASSERT_EQ(static_cast<int>(processes.size()), ranks);
    ::kill(processes.back(), SIGKILL);
    const Outcome outcome = wait(launcher);
    ASSERT_EQ(outcome.code, 0) << outcome.err;
    EXPECT_THAT(outcome.err,
                HasSubstr(fmt::format("rank {} was killed by signal 9 (Killed)",
                                      ranks - 1)));
    EXPECT_EQ(job(name)["restarts"].size(), 1U);
    EXPECT_EQ(job(name)["restarts"][0]["rank"], ranks - 1);
    EXPECT_EQ(state(name), state(whole));
    EXPECT_EQ(losses(name), losses(whole));
  }
  expect_nothing_left();
}

/// Two machines of two ranks each, which an ssh that a shell script plays finds
/// here; the first can be reached once.
TEST_F(LaunchCommandTest, AMachineThatIsLostForGoodIsDoneWithout) {
  const std::string ssh = write("ssh", fmt::format(R"(#!/bin/sh
case "$*" in *node1*) mkdir '{}/once' || exit 255;; esac
for last; do :; done
exec sh -c "exec $last"
)",
                                                   folder_.string()));
  fs::permissions(ssh, fs::perms::owner_all);
  const std::string steps = "--set train.steps=60 --set checkpoint.every=10 ";
  ASSERT_EQ(run(by(4, 2, "whole", steps)).code, 0);
  const pid_t launcher = start(
      "launch" + rank_of(2, "run", steps).substr(sizeof "train" - 1) +
          " --hosts node1,node2 --nnodes 1:2 --nproc-per-node 2 --address "
          "127.0.0.1 --lease 2 --rejoin-timeout 1 --no-preflight",
      fmt::format("export PATH='{}':$PATH;", folder_.string()));
  wait_for_step("run", 25);
  const auto agents = children_of(launcher);
  ASSERT_EQ(agents.size(), 2U);
  for (const pid_t agent : agents) EXPECT_EQ(children_of(agent).size(), 2U);
  ::kill(agents[0], SIGKILL);
  const Outcome outcome = wait(launcher);
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_THAT(outcome.err,
              testing::AllOf(HasSubstr("begins without agents 0 (node1)"),
                             HasSubstr("restart 1 of 3 from step")));
  EXPECT_EQ(job("run")["generation"], 2);
  EXPECT_EQ(job("run")["ranks"], 2);
  expect_same_run("run", "whole");
  expect_nothing_left();
}

TEST_F(LaunchCommandTest, ASignalSavesAndResumeGoesOn) {
  ASSERT_EQ(run(launched(2, "whole")).code, 0);
  const pid_t launcher = start(launched(2, "run"));
  wait_for_step("run", 10);
  ::kill(launcher, SIGTERM);
  const Outcome stopped = wait(launcher);
  EXPECT_EQ(stopped.code, 75) << stopped.err;
  EXPECT_EQ(job("run")["state"], "PREEMPTED");
  const Outcome resumed = run(launched(2, "run", "--resume"));
  ASSERT_EQ(resumed.code, 0) << resumed.err;
  EXPECT_EQ(state("run"), state("whole"));
}

TEST_F(LaunchCommandTest, AllThreadsOfABoundRankStayOnItsCores) {
  const launcher::Machine machine = launcher::machine_here();
  if (machine.cores.size() < 2) GTEST_SKIP() << "this machine has one core";
  const auto binding = bind_ranks(machine, launcher::Bind::kCore, 2);
  const pid_t launcher =
      start(launched(2, "run", "--bind core --set train.steps=100000"));
  wait_for_step("run", 5);
  const auto processes = children_of(launcher);
  ASSERT_EQ(processes.size(), 2U);
  for (std::size_t rank = 0; rank < processes.size(); ++rank) {
    const auto& place = binding.places.at(rank).processors;
    std::size_t threads = 0;
    for (const auto& task : fs::directory_iterator(
             fmt::format("/proc/{}/task", processes[rank]))) {
      ++threads;
      EXPECT_THAT(read_file(task.path() / "status"),
                  HasSubstr(fmt::format("Cpus_allowed_list:\t{}\n",
                                        launcher::list_text(place))));
    }
    // Its cores are all its own.
    EXPECT_GE(threads, place.size());
  }
  ::kill(launcher, SIGTERM);
  EXPECT_EQ(wait(launcher).code, 75);
}

TEST_F(LaunchCommandTest, ADamagedCheckpointIsPassedOver) {
  ASSERT_EQ(run(launched(2, "run", "--set train.steps=30")).code, 0);
  const auto places = list_checkpoints(checkpoints("run"));
  ASSERT_GE(places.size(), 2U);
  fs::resize_file(places[0].folder / "state.json", 10);
  const Outcome resumed = run(launched(2, "run", "--resume"));
  ASSERT_EQ(resumed.code, 0) << resumed.err;
  EXPECT_THAT(resumed.err, HasSubstr("It is passed over"));
  ASSERT_EQ(run(launched(2, "whole")).code, 0);
  EXPECT_EQ(state("run"), state("whole"));
}

TEST_F(LaunchCommandTest, WhatIsWrongIsSaidOnceAndNotTriedAgain) {
  const Outcome refused = run(launched(2, "run", "--set train.steps=-1"));
  EXPECT_EQ(refused.code, 78) << refused.err;
  EXPECT_FALSE(fs::exists(folder_ / "run"));
  EXPECT_EQ(run(launched(8, "run")).code, 78) << "7 experts on 8 ranks";
  const Outcome missing =
      run(launched(2, "run", "--set data.train=/nowhere.jsonl"));
  EXPECT_EQ(missing.code, 65) << missing.err;
  EXPECT_THAT(missing.err, HasSubstr("/nowhere.jsonl"));
  EXPECT_EQ(job("run")["restarts"].size(), 0U);
}

TEST_F(LaunchCommandTest, ADryRunSaysWhereRanksWouldRunAndMakesNothing) {
  const Outcome outcome = run(launched(2, "run", "--dry-run --json"));
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  const auto json = json_of(outcome.out);
  EXPECT_EQ(json["run"], (folder_ / "run").string());
  EXPECT_EQ(json["fits"], true);
  EXPECT_EQ(json["ranks"].size(), 2U);
  EXPECT_FALSE(fs::exists(folder_ / "run"));
}

constexpr const char* kHuge =
    "--dry-run --set model.layers=16 --set model.hidden=65536 --set "
    "model.chain.routed_experts=4096 ";

TEST_F(LaunchCommandTest, ADryRunSaysWhatIsTooLargeForThisMachine) {
  for (const char* agents : {"", "--agents 2 "}) {
    SCOPED_TRACE(agents);
    const std::string command = launched(2, "run", kHuge) + agents;
    const Outcome text = run(command);
    EXPECT_EQ(text.code, 71) << text.err;
    EXPECT_THAT(text.out, HasSubstr("\nfits     no: each of 2 ranks"));
    const Outcome outcome = run(command + "--json");
    EXPECT_EQ(outcome.code, 71) << outcome.err;
    const auto json = json_of(outcome.out);
    EXPECT_EQ(json["fits"], false);
    EXPECT_THAT(json["does_not_fit"], HasSubstr("train.micro_batch_tokens"));
    ASSERT_EQ(json["bytes_per_node"].size(), 1U);
    EXPECT_EQ(json["bytes_per_node"].front(),
              2 * json.at("rank_bytes").get<std::int64_t>());
  }
}

TEST_F(LaunchCommandTest, ADryRunForOtherHostsSaysWhatEachOfThemNeeds) {
  const std::string command = launched(3, "run", kHuge) + "--hosts a,b ";
  const Outcome text = run(command);
  EXPECT_EQ(text.code, 0) << text.err;
  EXPECT_THAT(text.out,
              ContainsRegex("\nfits     not known here: the fullest host, a, "
                            "needs [0-9.]+ [GT]iB for 2 ranks; "));
  const Outcome outcome = run(command + "--json");
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  const auto json = json_of(outcome.out);
  EXPECT_TRUE(json["fits"].is_null());
  const std::int64_t rank = json.at("rank_bytes");
  EXPECT_GT(rank, std::int64_t{1} << 40);
  EXPECT_EQ(json["bytes_per_node"],
            (nlohmann::json{{"a", 2 * rank}, {"b", rank}}));
}

/// A rank of this trainer is on a machine that has $BYTES of memory, and, if
/// $APART is set, that no other rank is on.
constexpr const char* kOnMachines = R"(#!/bin/sh
[ "$1" = train ] || exec '{0}/catena-train' "$@"
exec {1} sh -c '
mount -t tmpfs none /sys/fs/cgroup && hostname "machine${{APART:+-$RANK}}" &&
echo $BYTES > /sys/fs/cgroup/memory.max && exec "$0" "$@"' '{0}/catena-train' "$@"
)";

TEST_F(LaunchCommandTest, WhatHasToFitAMachineAreTheRanksThatAreThere) {
  std::string apart;
  for (const char* way : {"unshare -m --uts", "unshare -m --uts -r"}) {
    const std::string trial = fmt::format(
        "{} sh -c 'mount -t tmpfs none /sys/fs/cgroup && hostname x' 2>&1",
        way);
    if (apart.empty() && std::system(trial.c_str()) == 0) apart = way;
  }
  if (apart.empty()) GTEST_SKIP() << "unshare cannot part machines here";
  const std::string script =
      write("trainer", fmt::format(kOnMachines, CATENA_BINARY_DIR, apart));
  fs::permissions(script, fs::perms::owner_all);
  const Outcome plan = run("plan --ranks 2 --json" +
                           rank_of(2, "run").substr(std::strlen("train")));
  ASSERT_EQ(plan.code, 0) << plan.err;
  const std::int64_t rank = json_of(plan.out).at("memory_bytes");
  const std::string machines =
      fmt::format("export CATENA_TRAIN='{}' BYTES={};", script, rank * 3 / 2);
  const Outcome fits =
      run(launched(2, "run", "--agents 2"), machines + " export APART=1;");
  EXPECT_EQ(fits.code, 0) << fits.err;
  const Outcome refused = run(launched(2, "other", "--agents 2"), machines);
  EXPECT_EQ(refused.code, 71) << refused.err;
  EXPECT_THAT(refused.err, HasSubstr("each of 2 ranks on one machine needs"));
  EXPECT_THAT(refused.err, HasSubstr("this machine, machine, has "));
}

// As deploy/slurm/catena.sbatch does: the same command, again and again.
TEST_F(LaunchCommandTest, AFolderThatASchedulerNamesIsMadeAndGoneOnFrom) {
  ASSERT_EQ(run(by(2, 2, "whole")).code, 0);
  const std::string in =
      fmt::format("CATENA_RUN_DIR='{}'", (folder_ / "new/run").string());
  const pid_t first = start(by(2, 2, "elsewhere"), "export " + in + ";");
  wait_for_step("new/run", 5);
  ::kill(first, SIGTERM);
  EXPECT_EQ(wait(first).code, 75);
  const Outcome second = run(by(2, 2, "elsewhere"), "export " + in + ";");
  ASSERT_EQ(second.code, 0) << second.err;
  EXPECT_EQ(state("new/run"), state("whole"));
  EXPECT_EQ(losses("new/run"), losses("whole"));
  EXPECT_FALSE(fs::exists(folder_ / "elsewhere"));
}

TEST_F(LaunchCommandTest, AStoppedRankIsFoundHungAndTheBitsAreTheSame) {
  const std::string longer = " --set train.steps=150";
  ASSERT_EQ(run(launched(3, "whole", longer)).code, 0);
  const pid_t launcher =
      start(launched(3, "run", "--section-timeout 3" + longer));
  wait_for_step("run", 25);
  const auto processes = children_of(launcher);
  ASSERT_EQ(processes.size(), 3U);
  ::kill(processes[1], SIGSTOP);
  const Outcome outcome = wait(launcher);
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_THAT(outcome.err, HasSubstr("rank 1 hung: it came no further for"));
  EXPECT_THAT(outcome.err, HasSubstr("T (stopped)"));
  ASSERT_EQ(job("run")["restarts"].size(), 1U);
  EXPECT_EQ(job("run")["restarts"][0]["rank"], 1);
  EXPECT_EQ(state("run"), state("whole"));
  expect_nothing_left();
}

// Not stopped: it can still say where it is, and does so before it is ended.
TEST_F(LaunchCommandTest, AHungRankSaysWhereBeforeItIsEnded) {
  for (const int number : {SIGRTMIN, SIGRTMIN + 1}) {
    const std::string name = fmt::format("run-{}", number - SIGRTMIN);
    const pid_t launcher =
        start(launched(2, name, "--section-timeout 3 --set checkpoint.every=0"),
              fmt::format("export LD_PRELOAD='{}';", CATENA_HELD_UP));
    wait_for_step(name, 25);
    const auto processes = children_of(launcher);
    ASSERT_EQ(processes.size(), 2U);
    ::kill(processes[1], number);
    const Outcome outcome = wait(launcher);
    ASSERT_EQ(outcome.code, 0) << outcome.err;
    EXPECT_THAT(outcome.err, HasSubstr("rank 1 hung: it came no further for"));
    const std::string log = read_file(folder_ / name / "logs/rank-1.log");
    const std::string first = log.substr(0, log.find("-- generation 2"));
    const auto stack = first.find("-- stack, as asked for by SIGUSR2");
    ASSERT_NE(stack, std::string::npos) << log;
    EXPECT_THAT(first.substr(stack),
                testing::AllOf(HasSubstr("held_up"), HasSubstr("Trainer"),
                               HasSubstr("-- section step, after step ")));
    ASSERT_EQ(job(name)["restarts"].size(), 1U);
    EXPECT_EQ(job(name)["restarts"][0]["section"], "step");
  }
}

TEST_F(LaunchCommandTest, WhoDoesNotAnswerIsBlamedNotWhoWaits) {
  const pid_t launcher = start(
      launched(3, "run", "--set parallel.timeout=3 --set train.steps=150"));
  wait_for_step("run", 25);
  const auto processes = children_of(launcher);
  ASSERT_EQ(processes.size(), 3U);
  ::kill(processes[1], SIGSTOP);
  const Outcome outcome = wait(launcher);
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_THAT(outcome.err, HasSubstr("rank 1 did not answer, and rank"));
  ASSERT_EQ(job("run")["restarts"].size(), 1U);
  const nlohmann::json cause = job("run")["restarts"][0];
  EXPECT_EQ(cause["rank"], 1);
  EXPECT_THAT(cause["exchange"].get<std::string>(),
              ContainsRegex("^[a-z_]+ \\([a-z]+[^()]*\\)$"));
  EXPECT_THAT(outcome.err, HasSubstr("; others missed it in "));
}

/// A rank is hit where it happens to be; a busy machine may leave the others
/// too little time to say so.
TEST_F(LaunchCommandTest, WhereAKilledRankWasMissedIsSaid) {
  const std::regex place(
      R"(^[a-z_]+ \([a-z ]+, layer \d+, iteration \d+, chunk \d+\)$)");
  std::string said;
  for (int trial = 0; trial < 10; ++trial) {
    const std::string name = fmt::format("run-{}", trial);
    const pid_t launcher = start(launched(2, name, "--set train.steps=150"));
    wait_for_step(name, 25);
    const auto processes = children_of(launcher);
    ASSERT_EQ(processes.size(), 2U);
    ::kill(processes[1], SIGKILL);
    const Outcome outcome = wait(launcher);
    ASSERT_EQ(outcome.code, 0) << outcome.err;
    const nlohmann::json cause = job(name)["restarts"][0];
    EXPECT_EQ(cause["rank"], 1);
    said = cause["exchange"];
    if (!std::regex_match(said, place)) continue;
    EXPECT_THAT(outcome.err,
                HasSubstr("(Killed); others missed it in " + said));
    return;
  }
  FAIL() << "no place within the model in ten runs; at last: " << said;
}

/// As Slurm does at a job's end; the launcher asks its ranks again.
TEST_F(LaunchCommandTest, ASignalToLauncherAndRanksSaves) {
  const pid_t launcher = start(
      launched(2, "run", "--set train.steps=100000 --set checkpoint.every=0"));
  wait_for_step("run", 10);
  auto processes = children_of(launcher);
  ASSERT_EQ(processes.size(), 2U);
  processes.push_back(launcher);
  for (const pid_t process : processes) ::kill(process, SIGTERM);
  const Outcome outcome = wait(launcher);
  EXPECT_EQ(outcome.code, 75) << outcome.err;
  EXPECT_EQ(result("run")["state"], "stopped");
  EXPECT_TRUE(newest_checkpoint(checkpoints("run")).has_value());
}

TEST_F(LaunchCommandTest, Sigusr1SavesAndGoesOnSigusr2ShowsStacks) {
  const pid_t launcher = start(
      launched(2, "run", "--set train.steps=100000 --set checkpoint.every=0"));
  wait_for_step("run", 10);
  ::kill(launcher, SIGUSR1);
  wait_until("a checkpoint", [this] {
    return fs::exists(folder_ / "run/checkpoints") &&
           !list_checkpoints(checkpoints("run")).empty();
  });
  const auto saved = list_checkpoints(checkpoints("run"))[0].step;
  EXPECT_LT(saved, 100000);
  wait_for_step("run", static_cast<int>(saved) + 5);
  ::kill(launcher, SIGUSR2);
  for (const char* log : {"run/logs/rank-0.log", "run/logs/rank-1.log"}) {
    wait_until("stacks", [this, log] {
      return read_file(folder_ / log).find("-- section step, after step ") !=
             std::string::npos;
    });
    EXPECT_THAT(read_file(folder_ / log), HasSubstr("-- stack, as asked for"));
    EXPECT_THAT(read_file(folder_ / log), HasSubstr("Trainer"));
  }
  ::kill(launcher, SIGTERM);
  const Outcome outcome = wait(launcher);
  EXPECT_EQ(outcome.code, 75) << outcome.err;
  EXPECT_THAT(outcome.err, HasSubstr("RUNNING, generation 1"));
  EXPECT_EQ(job("run")["restarts"].size(), 0U);
}

TEST_F(LaunchCommandTest, WhatRanksNeedIsKnownBeforeTheyStart) {
  const Outcome outcome =
      run(launched(2, "run",
                   "--agents 2 --set train.steps=2 --set validation.every=2 "
                   "--set train.precision=float32"));
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  const auto needs =
      json_of(read_file(folder_ / "run/preflight.json"))["needs"];
  EXPECT_GT(needs["rank_bytes"], 1 << 20);
  // The only checkpoint, but for what its files say of themselves.
  double written = 0;
  for (const auto& entry : fs::recursive_directory_iterator(
           list_checkpoints(checkpoints("run")).at(0).folder)) {
    if (entry.is_regular_file()) written += entry.file_size();
  }
  const double needed = needs["disk_bytes"];
  EXPECT_GT(written, needed);
  EXPECT_LT(written, 1.3 * needed);
  EXPECT_THAT(needs["files"].dump(),
              testing::AllOf(HasSubstr("/tiny.toml\""),
                             HasSubstr("/data/quickstart/tokenizer.json\""),
                             HasSubstr("/data/quickstart/val.jsonl\"")));
}

}  // namespace
}  // namespace catena
