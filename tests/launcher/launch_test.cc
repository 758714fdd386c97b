// `catena launch` with real processes, which a shell script plays.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <thread>

#include "launcher/contract.h"
#include "tests/launcher/launched.h"

namespace catena::launcher {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using Json = nlohmann::json;

class LaunchTest : public Launched {};

TEST_F(LaunchTest, RanksAreToldWhoTheyAre) {
  ranks_do(R"(
echo "$CATENA_RANK of $CATENA_WORLD_SIZE in $CATENA_GENERATION at $CATENA_RENDEZVOUS"
[ "$CATENA_RUN_DIR" = $RUN ] || exit 1
[ -z "$CATENA_TOKEN_FILE" ] || exit 3
if [ -n "$CATENA_RANK" ]; then
  [ ${#CATENA_TOKEN} -ge 32 ] || exit 2
  [ $RANK != 0 ] || [ -n "$CATENA_RENDEZVOUS_FD" ] || exit 4
fi
say joined; say done)");
  for (const char* ranks : {"1", "2", "3", "4", "7", "8"}) {
    SCOPED_TRACE(ranks);
    const Outcome outcome = launch({"-n", ranks});
    EXPECT_EQ(outcome.code, 0) << outcome.error;
    EXPECT_EQ(result()["state"], "SUCCEEDED");
    const int world = std::stoi(ranks);
    EXPECT_EQ(result()["ranks"], world);
    if (world == 1) continue;
    EXPECT_THAT(
        read_file(run() / "logs" / fmt::format("rank-{}.log", world - 1)),
        HasSubstr(
            fmt::format("{} of {} in 1 at 127.0.0.1:", world - 1, world)));
  }
}

TEST_F(LaunchTest, RanksAreToldWhoTheyAreAsTorchrunDoes) {
  ranks_do(R"(
env > $RUN/environment-$RANK.$CATENA_GENERATION
say joined; say done
[ "$CATENA_GENERATION$RANK" != 11 ] || exit 7)");
  const std::vector<std::string> misleading = {
      "RANK=9",        "LOCAL_RANK=9",       "WORLD_SIZE=9",
      "MASTER_PORT=9", "GROUP_WORLD_SIZE=9", "CATENA_RESTART_COUNT=9"};
  const Outcome outcome = launch(
      {"-n", "2", "--max-restarts", "5", "--env", "NODE_RANK=9"}, misleading);
  ASSERT_EQ(outcome.code, 0) << outcome.error;
  for (const auto& [rank, generation] : {std::pair{0, 1}, {1, 1}, {1, 2}}) {
    const std::string said =
        '\n' +
        read_file(run() / fmt::format("environment-{}.{}", rank, generation));
    const auto value = [&said](const std::string& name) {
      const auto at = said.find('\n' + name + '=') + name.size() + 2;
      return said.substr(at, said.find('\n', at) - at);
    };
    EXPECT_EQ(value("RANK"), fmt::format("{}", rank));
    EXPECT_EQ(value("LOCAL_RANK"), fmt::format("{}", rank));
    EXPECT_EQ(value("WORLD_SIZE"), "2");
    EXPECT_EQ(value("LOCAL_WORLD_SIZE"), "2");
    EXPECT_EQ(value("NODE_RANK"), "0");
    EXPECT_EQ(value("GROUP_RANK"), "0");
    EXPECT_EQ(value("GROUP_WORLD_SIZE"), "1");
    EXPECT_EQ(value("MASTER_ADDR") + ':' + value("MASTER_PORT"),
              value("CATENA_RENDEZVOUS"));
    EXPECT_EQ(value("CATENA_RESTART_COUNT"), fmt::format("{}", generation - 1));
    EXPECT_EQ(value("CATENA_MAX_RESTARTS"), "5");
    for (const char* name : {"RANK", "NODE_RANK", "WORLD_SIZE"}) {
      const std::string line = fmt::format("\n{}=", name);
      EXPECT_EQ(said.find(line), said.rfind(line)) << name;
    }
  }
}

TEST_F(LaunchTest, TheFirstCauseIsNamedAndTheRestEndsWithIt) {
  ranks_do(R"(
echo $$ >> $RUN/pids; say joined; say "step 3"
if [ $RANK = 2 ]; then
  while [ $(wc -l < $RUN/pids) -lt 3 ]; do sleep 0.01; done
  echo what went wrong >&2; exit 3
fi
exec sleep 100)");
  const Outcome outcome = launch({"-n", "3", "--max-restarts", "0"});
  EXPECT_EQ(outcome.code, 3);
  EXPECT_THAT(outcome.error, AllOf(HasSubstr("rank 2 ended with code 3"),
                                   HasSubstr("what went wrong"),
                                   HasSubstr("no restarts were allowed")));
  const Json json = result();
  EXPECT_EQ(json["state"], "FAILED");
  EXPECT_EQ(json["exit_code"], 3);
  EXPECT_EQ(json["first_failure"]["rank"], 2);
  EXPECT_EQ(json["first_failure"]["step"], 3);
  EXPECT_THAT(json["first_failure"]["last_words"], HasSubstr("what went"));
  expect_none_left();
}

TEST_F(LaunchTest, WhatIgnoresTheEndOrHidesIsKilled) {
  // Rank 1 heeds no signal; rank 0's children leave its group and session.
  ranks_do(R"(
echo $$ >> $RUN/pids
if [ $RANK = 0 ]; then
  setsid sh -c 'echo $$ >> '$RUN'/pids; exec sleep 100' & sleep 0.3; exit 1
fi
trap '' TERM INT; while :; do sleep 0.1; done)");
  const Outcome outcome =
      launch({"-n", "2", "--max-restarts", "0", "--grace-period", "0.3"});
  EXPECT_EQ(outcome.code, 1) << outcome.error;
  expect_none_left();
}

TEST_F(LaunchTest, AFailureIsTriedAgainUntilItGoesWell) {
  ranks_do(R"(
say joined
if [ $RANK = 1 ]; then
  mkdir -p $RUN/checkpoints/step-00000$CATENA_GENERATION
  touch $RUN/checkpoints/step-00000$CATENA_GENERATION/MANIFEST.json
  [ $CATENA_GENERATION = 3 ] || kill -SEGV $$
fi
[ $CATENA_GENERATION = 3 ] || exec sleep 100
say done)");
  const Outcome outcome = launch({"-n", "2"});
  EXPECT_EQ(outcome.code, 0) << outcome.error;
  const Json json = result();
  EXPECT_EQ(json["generation"], 3);
  EXPECT_EQ(json["restarts"].size(), 2U);
  EXPECT_EQ(json["restarts"][1]["signal"], SIGSEGV);
  EXPECT_EQ(json["checkpoint_step"], 3);
  EXPECT_THAT(
      read_file(run() / "logs" / "rank-0.log"),
      AllOf(HasSubstr("-- generation 1,"), HasSubstr("-- generation 3,")));
}

TEST_F(LaunchTest, WithoutProgressItGivesUp) {
  ranks_do("exit 5");
  const Outcome outcome = launch({"-n", "2", "--max-restarts", "50"});
  EXPECT_EQ(outcome.code, kExitNoProgress);
  EXPECT_EQ(result()["restarts"].size(), 2U);
  EXPECT_THAT(outcome.error, HasSubstr("3 starts in a row made no checkpoint"));
}

TEST_F(LaunchTest, WhatWouldBeMetAgainIsNotTriedAgain) {
  for (const int code : {65, 71, 74, 76, 78}) {
    ranks_do(fmt::format("exit {}", code));
    EXPECT_EQ(launch({"-n", "2"}).code, code);
    EXPECT_EQ(result()["restarts"].size(), 0U);
    EXPECT_EQ(result()["generation"], 1);
  }
}

TEST_F(LaunchTest, CodeZeroBeforeTheWorkIsDoneIsAFailure) {
  ranks_do("say joined; [ $RANK = 1 ] && exit 0; exec sleep 100");
  const Outcome outcome = launch({"-n", "2", "--max-restarts", "0"});
  EXPECT_EQ(outcome.code, kExitInternal);
  EXPECT_THAT(outcome.error,
              HasSubstr("rank 1 ended with code 0 before its work was done"));
}

TEST_F(LaunchTest, RanksThatDoNotMeetAreNamed) {
  ranks_do("[ $RANK = 1 ] || say joined; exec sleep 100");
  const Outcome outcome =
      launch({"-n", "2", "--max-restarts", "0", "--start-timeout", "0.5"});
  EXPECT_EQ(outcome.code, kExitNotAssembled);
  EXPECT_THAT(outcome.error, HasSubstr("1 of 2 ranks have not met: 1 after"));
  EXPECT_EQ(result()["first_failure"]["rank"], -1);
  EXPECT_EQ(result()["first_failure"]["code"], kExitNotAssembled);
}

TEST_F(LaunchTest, ATimeLimitStopsInOrder) {
  ranks_do(R"(
trap 'exit 75' TERM
echo $$ >> $RUN/pids; say joined; say "step 1"
while :; do sleep 0.05; done)");
  const Outcome outcome = launch({"-n", "2", "--time-limit", "1"});
  EXPECT_EQ(outcome.code, kExitPreempted) << outcome.error;
  EXPECT_THAT(outcome.error, HasSubstr("(--time-limit) is reached"));
  EXPECT_EQ(result()["state"], "PREEMPTED");
  expect_none_left();
}

TEST_F(LaunchTest, OneSignalStopsInOrderTwoAtOnce) {
  ranks_do(R"(
trap 'sleep 0.2; exit 75' TERM
echo $$ >> $RUN/pids; say joined; say "step 1"
[ $RANK = 1 ] && touch $RUN/ready
while :; do sleep 0.05; done)");
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGQUIT}) {
    fs::remove_all(run());
    Program program = start({"-n", "2"});
    wait_for("ready");
    ::kill(program.process(), signal);
    EXPECT_EQ(program.wait().code, kExitPreempted);
    EXPECT_EQ(result()["state"], "PREEMPTED");
    expect_none_left();
  }
  ranks_do(R"(
trap '' TERM
echo $$ >> $RUN/pids; say joined; touch $RUN/ready
while :; do sleep 0.05; done)");
  fs::remove_all(run());
  Program program = start({"-n", "2"});
  wait_for("ready");
  ::kill(program.process(), SIGINT);
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  ::kill(program.process(), SIGINT);
  EXPECT_EQ(program.wait().code, 128 + SIGINT);
  EXPECT_EQ(result()["state"], "CANCELLED");
  expect_none_left();
}

TEST_F(LaunchTest, ALauncherThatIsKilledLeavesNoRank) {
  ranks_do(R"(
echo $$ >> $RUN/pids; say joined; [ $RANK = 1 ] && touch $RUN/ready
exec sleep 100)");
  Program program = start({"-n", "2"});
  wait_for("ready");
  ::kill(program.process(), SIGKILL);
  EXPECT_EQ(program.wait().signal, SIGKILL);
  expect_none_left();
}

TEST_F(LaunchTest, ADryRunStartsNothing) {
  ranks_do("touch $RUN/ran");
  const Outcome text = launch({"-n", "2", "--dry-run", "--set", "a=b c"});
  EXPECT_EQ(text.code, 0);
  EXPECT_THAT(text.output, AllOf(HasSubstr("rank 1"), HasSubstr("fits     yes"),
                                 HasSubstr("rank-1.log")));
  const Json json = json_of(launch({"-n", "2", "--dry-run", "--json"}).output);
  EXPECT_EQ(json["ranks"].size(), 2U);
  EXPECT_EQ(json["ranks"][1]["local_rank"], 1);
  EXPECT_EQ(json["fits"], true);
  EXPECT_FALSE(fs::exists(run() / "ran"));
  EXPECT_FALSE(fs::exists(run() / "job.json"));
}

TEST_F(LaunchTest, TheConfigurationSaysHowToLaunch) {
  configure("[launch]\nranks = 3\nmax_restarts = 9\nenv = [\"A=b c\"]\n");
  ranks_do("");
  const Json plan = json_of(launch({"--dry-run", "--json", "--set",
                                    "launch.lease=5", "--set", "x.y=z"})
                                .output);
  EXPECT_EQ(plan["ranks"].size(), 3U);
  const std::string arguments = plan["arguments"].dump();
  EXPECT_THAT(arguments,
              AllOf(HasSubstr("x.y=z"), Not(HasSubstr("launch.lease"))));
  ranks_do(R"(
echo "$A, $CATENA_MAX_RESTARTS" > $RUN/told-$RANK
say joined; say done)");
  const Outcome outcome = launch({"-n", "2"}, {"CATENA_MAX_RESTARTS=8"});
  EXPECT_EQ(outcome.code, 0) << outcome.error;
  EXPECT_EQ(read_file(run() / "told-1"), "b c, 8\n");
  EXPECT_FALSE(fs::exists(run() / "told-2"));
  configure("[launch]\nranks = \"3\"\n");
  const Outcome wrong = launch({});
  EXPECT_EQ(wrong.code, kExitConfig);
  EXPECT_THAT(wrong.error, HasSubstr("x.toml:2:9: launch.ranks must be an "
                                     "integer from 0 to 1024"));
  EXPECT_EQ(launch({}, {"CATENA_RANKS=three"}).code, kExitConfig);
  configure("");
  EXPECT_EQ(launch({}, {"CATENA_RANKS=three"}).code, kExitUsage);
}

TEST_F(LaunchTest, AProgramThatIsGoneIsNotTriedAgain) {
  ranks_do("");
  write_file_atomically(folder_ / "real", read_file(trainer()));
  // It removes itself once it has begun.
  write_file_atomically(
      trainer(), fmt::format("#!/bin/sh\nrm -f {0}\n. {1}\n",
                             trainer().string(), (folder_ / "real").string()));
  fs::permissions(trainer(), fs::perms::owner_all);
  const Outcome outcome = launch({"-n", "2"});
  EXPECT_EQ(outcome.code, kExitNotFound) << outcome.error;
  EXPECT_THAT(outcome.error, HasSubstr("could not be started"));
  EXPECT_EQ(result()["restarts"].size(), 0U);
}

TEST_F(LaunchTest, WrongCommandLinesAreOneClearLine) {
  ranks_do("");
  const Outcome outcome = launch({"--max-restart", "3"});
  EXPECT_EQ(outcome.code, kExitUsage);
  EXPECT_THAT(outcome.error, HasSubstr("see `catena launch --help`\n"));
  EXPECT_EQ(launch({"-n", "0"}).code, kExitUsage);
}

/// Ranks that take steps until a file says that it is enough, or stop
/// themselves in the first generation. In later ones they are done at once.
constexpr const char* kSteps = R"(
trap 'echo the stack of $RANK' USR2
echo $$ >> $RUN/pids
say "section start"; say joined; say "section step"
if [ $CATENA_GENERATION != 1 ]; then say done; exit 0; fi
i=1
while [ ! -e $RUN/enough ]; do
  say "step $i"; i=$((i + 1)); sleep 0.05
  [ $i = 3 ] && touch $RUN/ready-$RANK
  if [ $i = 5 ]; then case " $STOPPED " in *" $RANK "*) kill -STOP $$;; esac; fi
done
say done)";

TEST_F(LaunchTest, ARankThatIsStoppedIsFoundAndKilledAndTheOthersGoOn) {
  for (const char* stopped : {"1", "0 1 2"}) {
    SCOPED_TRACE(stopped);
    fs::remove_all(run());
    ranks_do(fmt::format("STOPPED=\"{}\"", stopped) + kSteps);
    const Outcome outcome = launch({"-n", "3", "--section-timeout", "1"});
    EXPECT_EQ(outcome.code, 0) << outcome.error;
    EXPECT_THAT(
        outcome.error,
        AllOf(HasSubstr("section step, after step 4"), HasSubstr("T (stopped)"),
              HasSubstr("it is ended if that lasts as long again"),
              HasSubstr("it hangs, and is ended")));
    const Json json = result();
    ASSERT_EQ(json["restarts"].size(), 1U);
    const int blamed = json["restarts"][0]["rank"];
    EXPECT_TRUE(std::string(stopped) != "1" || blamed == 1) << blamed;
    EXPECT_EQ(json["restarts"][0]["hung"], true);
    EXPECT_EQ(json["restarts"][0]["section"], "step");
    expect_none_left();
  }
}

TEST_F(LaunchTest, ASlowRankIsNotKilled) {
  ranks_do(kSteps);
  Program program = start({"-n", "2", "--section-timeout", "2"});
  wait_for("ready-0");
  wait_for("ready-1");
  std::istringstream file(read_file(run() / "pids"));
  int process = 0;
  file >> process;
  // Twenty times as slow as the other, for three times the timeout.
  for (int i = 0; i < 6; ++i) {
    ::kill(process, SIGSTOP);
    std::this_thread::sleep_for(std::chrono::milliseconds(950));
    ::kill(process, SIGCONT);
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  write_file_atomically(run() / "enough", "");
  const Outcome outcome = program.wait();
  EXPECT_EQ(outcome.code, 0) << outcome.error;
  EXPECT_EQ(result()["restarts"].size(), 0U);
}

TEST_F(LaunchTest, Sigusr2SaysHowAllRanksAre) {
  ranks_do(kSteps);
  Program program = start({"-n", "2"});
  wait_for("ready-0");
  wait_for("ready-1");
  ::kill(program.process(), SIGUSR2);
  const auto answered = [this](int rank) {
    const fs::path log = run() / "logs" / fmt::format("rank-{}.log", rank);
    return read_file(log).find(fmt::format("the stack of {}", rank)) !=
           std::string::npos;
  };
  for (int i = 0; i < 3000 && !(answered(0) && answered(1)); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  write_file_atomically(run() / "enough", "");
  const Outcome outcome = program.wait();
  EXPECT_EQ(outcome.code, 0) << outcome.error;
  EXPECT_THAT(outcome.error, AllOf(HasSubstr("RUNNING, generation 1, step"),
                                   HasSubstr("rank 0 has come no further for"),
                                   HasSubstr("rank 1 has come no further for"),
                                   HasSubstr("threads")));
  EXPECT_EQ(result()["restarts"].size(), 0U);
}

TEST_F(LaunchTest, SharedMemoryOfKilledRanksIsRemoved) {
  ranks_do(R"(
name=/dev/shm/catena-${CATENA_JOB_ID}0123-$RANK
if [ $CATENA_GENERATION = 1 ]; then
  echo $name >> $RUN/names; touch $name; kill -KILL $$
fi
[ ! -e $name ] || exit 78
touch $name
say joined; say done)");
  const Outcome outcome = launch({"-n", "2"});
  EXPECT_EQ(outcome.code, 0) << outcome.error;
  std::istringstream file(read_file(run() / "names"));
  for (std::string name; file >> name;) EXPECT_FALSE(fs::exists(name)) << name;
}

}  // namespace
}  // namespace catena::launcher
