// `catena launch` with agents that are processes of their own, on this machine
// or by an ssh that a shell script plays; a shell script plays the ranks.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <boost/asio/buffer.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/write.hpp>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <set>

#include "launcher/contract.h"
#include "tests/launcher/launched.h"

namespace catena::launcher {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

class RemoteLaunchTest : public Launched {
 protected:
  /// Returns what finds an `ssh` that does this before the real one.
  std::string ssh_does(const std::string& script) const {
    return program_does("ssh", script);
  }
  /// As the real one, but on this machine: the last argument goes to a shell.
  std::string ssh_runs_here() const {
    return ssh_does(
        fmt::format("printf '%s\\n' \"$@\" >> {}/ssh.args\n"
                    "for last; do :; done\n"
                    "cd / && exec sh -c \"$last\"\n",
                    folder_.string()));
  }
  /// Of 127.0.0.1, at which a process listens.
  static std::vector<int> ports_of(int process) {
    std::set<std::string> sockets;
    for (const auto& entry :
         fs::directory_iterator(fmt::format("/proc/{}/fd", process))) {
      std::error_code gone;
      sockets.insert(fs::read_symlink(entry.path(), gone).string());
    }
    std::vector<int> ports;
    std::ifstream table("/proc/net/tcp");
    std::string line;
    while (std::getline(table, line)) {
      std::istringstream words(line);
      std::string word[10];
      for (std::string& each : word) words >> each;
      if (word[3] == "0A" && sockets.contains("socket:[" + word[9] + "]")) {
        ports.push_back(std::stoi(word[1].substr(9), nullptr, 16));
      }
    }
    return ports;
  }
};

TEST_F(RemoteLaunchTest, RanksOfAllAgentsAreOneJob) {
  ranks_do(note_agent() + R"(
echo "$CATENA_RANK of $CATENA_WORLD_SIZE in $CATENA_GENERATION at $CATENA_RENDEZVOUS"
[ "$CATENA_RUN_DIR" = $RUN ] || exit 1
[ ${#CATENA_TOKEN} -ge 32 ] || exit 2
[ $RANK != 0 ] || [ -n "$CATENA_RENDEZVOUS_FD" ] || exit 4
echo "$LOCAL_RANK of $LOCAL_WORLD_SIZE on $NODE_RANK of $GROUP_WORLD_SIZE"
[ "$PWD" = ")" +
           fs::current_path().string() +
           R"(" ] || exit 5
say joined; say done)");
  for (const auto& [ranks, agents] : std::vector<std::pair<int, int>>{
           {2, 2}, {3, 2}, {4, 3}, {7, 2}, {8, 8}}) {
    SCOPED_TRACE(fmt::format("{} ranks by {} agents", ranks, agents));
    fs::remove_all(run());
    const Outcome outcome = launch({"-n", fmt::format("{}", ranks), "--agents",
                                    fmt::format("{}", agents)});
    EXPECT_EQ(outcome.code, 0) << outcome.error;
    EXPECT_EQ(result()["state"], "SUCCEEDED");
    const std::string last =
        read_file(run() / "logs" / fmt::format("rank-{}.log", ranks - 1));
    EXPECT_THAT(last, HasSubstr(fmt::format(
                          "{} of {} in 1 at 127.0.0.1:", ranks - 1, ranks)));
    const int here = ranks / agents;  // of the last, which has the fewest
    EXPECT_THAT(
        last, HasSubstr(fmt::format("\n{} of {} on {} of {}\n", here - 1, here,
                                    agents - 1, agents)));
    EXPECT_THAT(outcome.error, HasSubstr("\n0 of"));
    EXPECT_THAT(outcome.error, Not(HasSubstr("\n1 of")));
    std::set<int> different;
    for (int rank = 0; rank < ranks; ++rank) different.insert(agent_of(rank));
    EXPECT_EQ(different.size(), static_cast<std::size_t>(agents));
    expect_none_left();
  }
}

TEST_F(RemoteLaunchTest, AKilledRankOfAnotherAgentIsNamedAndTriedAgain) {
  ranks_do(note_agent() + R"(
say joined; say "step 3"
if [ $CATENA_GENERATION = 1 ]; then
  [ $RANK = 3 ] && kill -9 $$
  exec sleep 100
fi
say done)");
  const Outcome outcome = launch({"-n", "4", "--agents", "2"});
  EXPECT_EQ(outcome.code, 0) << outcome.error;
  EXPECT_EQ(result()["generation"], 2);
  EXPECT_EQ(result()["restarts"][0]["rank"], 3);
  EXPECT_EQ(result()["restarts"][0]["signal"], SIGKILL);
  expect_none_left();
}

TEST_F(RemoteLaunchTest, AKilledAgentIsReplacedAndItsRanksAreGone) {
  ranks_do(note_agent() + R"(
say joined
[ $CATENA_GENERATION = 1 ] || { say done; exit 0; }
[ $RANK = 3 ] && touch $RUN/ready
exec sleep 100)");
  Program program = start({"-n", "4", "--agents", "2", "--lease", "1.5"});
  wait_for("ready");
  const int agent = agent_of(3);
  ::kill(agent, SIGKILL);
  const Outcome outcome = program.wait();
  EXPECT_EQ(outcome.code, 0) << outcome.error;
  EXPECT_THAT(outcome.error, HasSubstr("agent 1 ("));
  EXPECT_EQ(result()["generation"], 2);
  EXPECT_EQ(result()["restarts"][0]["rank"], -1);
  EXPECT_NE(agent_of(3), agent);
  expect_none_left();
}

TEST_F(RemoteLaunchTest, AnAgentThatIsStoppedForLongIsFenced) {
  ranks_do(note_agent() + R"(
say joined
[ $CATENA_GENERATION = 1 ] || { say done; exit 0; }
[ $RANK = 1 ] && touch $RUN/ready
exec sleep 100)");
  Program program = start({"-n", "2", "--agents", "2", "--lease", "1.5"});
  wait_for("ready");
  ::kill(agent_of(1), SIGSTOP);
  const Outcome outcome = program.wait();
  EXPECT_EQ(outcome.code, 0) << outcome.error;
  EXPECT_THAT(outcome.error,
              HasSubstr("nothing was heard of it for 1.5 s (--lease)"));
  expect_none_left();
}

TEST_F(RemoteLaunchTest, RanksHoldALeaseOfAnAgentThatIsAProcessOfItsOwn) {
  ranks_do(R"(
case $(readlink /proc/self/fd/$CATENA_LEASE_FD) in
  /memfd:catena-lease*) echo "a lease";; *) echo "none";; esac
say joined; say done)");
  for (const bool remote : {true, false}) {
    fs::remove_all(run());
    std::vector<std::string> arguments = {"-n", "1"};
    if (remote) arguments.insert(arguments.end(), {"--agents", "1"});
    // As within a job of another launcher.
    const Outcome outcome = launch(arguments, {"CATENA_LEASE_FD=1"});
    EXPECT_EQ(outcome.code, 0) << outcome.error;
    EXPECT_THAT(outcome.error, HasSubstr(remote ? "\na lease" : "\nnone"));
  }
}

TEST_F(RemoteLaunchTest, AKilledLauncherLeavesNeitherAgentNorRank) {
  ranks_do(note_agent() + R"(
echo $PPID >> $RUN/pids
say joined; [ $RANK = 3 ] && touch $RUN/ready
exec sleep 100)");
  Program program = start({"-n", "4", "--agents", "2"});
  wait_for("ready");
  ::kill(program.process(), SIGKILL);
  EXPECT_EQ(program.wait().signal, SIGKILL);
  expect_none_left();
}

TEST_F(RemoteLaunchTest, AStoppedLauncherLosesItsAgents) {
  ranks_do(note_agent() + R"(
say joined; [ $RANK = 1 ] && touch $RUN/ready
exec sleep 100)");
  Program program = start({"-n", "2", "--agents", "2", "--lease", "1"});
  wait_for("ready");
  ::kill(program.process(), SIGSTOP);
  expect_none_left();
  ::kill(program.process(), SIGKILL);
  ::kill(program.process(), SIGCONT);
  static_cast<void>(program.wait());
}

// Ctrl-S, `less`, an ssh that stalls.
TEST_F(RemoteLaunchTest, AStandardErrorThatNobodyReadsStopsNobody) {
  ranks_do(R"(
say joined; say "step 1"
[ $RANK = 0 ] && head -c 3000000 /dev/zero | tr '\\0' '\\n'
sleep 4
say done)");
  const std::string pipe = (folder_ / "pipe").string();
  Program program(
      "/bin/sh",
      {"sh", "-c",
       fmt::format("mkfifo {0}; exec 9<>{0}; exec \"$@\" 2>&9", pipe), "sh",
       CATENA_PROGRAM, "launch", "-n", "2", "--agents", "2", "--lease", "1",
       "--max-restarts", "0", config().string()},
      {fmt::format("{}={}", kTrainerVariable, trainer().string())});
  EXPECT_EQ(program.wait().code, 0);
  EXPECT_EQ(result()["state"], "SUCCEEDED");
  EXPECT_EQ(result()["generation"], 1);
}

TEST_F(RemoteLaunchTest, ASignalStopsInOrder) {
  ranks_do(note_agent() + R"(
trap 'sleep 0.2; exit 75' TERM
say joined; say "step 1"
touch $RUN/ready-$RANK
while :; do sleep 0.05; done)");
  Program program = start({"-n", "4", "--agents", "2"});
  for (const char* name : {"ready-0", "ready-1", "ready-2", "ready-3"}) {
    wait_for(name);
  }
  ::kill(program.process(), SIGTERM);
  EXPECT_EQ(program.wait().code, kExitPreempted);
  EXPECT_EQ(result()["state"], "PREEMPTED");
  expect_none_left();
}

TEST_F(RemoteLaunchTest, AgentsWithoutAnInvitationAreRefused) {
  Program program(CATENA_PROGRAM, {"catena", "agent"}, {});
  const Outcome outcome = program.wait();
  EXPECT_EQ(outcome.code, kExitUsage);
  EXPECT_THAT(outcome.error, HasSubstr("is started by catena launch"));
}

TEST_F(RemoteLaunchTest, HostsAreReachedByOneConstantCommand) {
  ranks_do(note_agent() + "say joined; say done");
  const Outcome outcome =
      launch({"-n", "3", "--hosts", "node1,me@node2", "--address", "127.0.0.1"},
             {ssh_runs_here()});
  EXPECT_EQ(outcome.code, 0) << outcome.error;
  const std::string arguments = read_file(folder_ / "ssh.args");
  EXPECT_THAT(arguments,
              AllOf(HasSubstr("BatchMode=yes"), HasSubstr("--\nnode1\n"),
                    HasSubstr("--\nme@node2\n"), HasSubstr("catena agent\n"),
                    Not(HasSubstr("secret")), Not(HasSubstr("x.toml"))));
  expect_none_left();
}

TEST_F(RemoteLaunchTest, EnvironmentAndArgumentsComeByteForByte) {
  ranks_do(keep_what_came() + "say joined; say done");
  const std::vector<std::string> flags = random_flags(100);
  std::vector<std::string> more = {"-n",  "2",         "--hosts",
                                   "a,b", "--address", "127.0.0.1"};
  more.insert(more.end(), flags.begin(), flags.end());
  const Outcome outcome = launch(more, {ssh_runs_here()});
  ASSERT_EQ(outcome.code, 0) << outcome.error;
  for (const int rank : {0, 1}) expect_came(flags, rank);
}

TEST_F(RemoteLaunchTest, WhatIsTooMuchForAMessageIsRefused) {
  ranks_do("");
  std::vector<std::string> more = {"-n", "2", "--agents", "2"};
  for (int i = 0; i < 10; ++i) {
    more.insert(more.end(),
                {"--env", fmt::format("E{}={}", i, std::string(120000, 'x'))});
  }
  const Outcome outcome = launch(more);
  EXPECT_EQ(outcome.code, kExitUsage);
  EXPECT_THAT(outcome.error, HasSubstr("have fewer or shorter --env"));
}

TEST_F(RemoteLaunchTest, AHostfileSaysHowManyRanksAHostTakes) {
  ranks_do("");
  const fs::path file = folder_ / "hosts";
  write_file_atomically(file, "node1 slots=1  # the old one\n\nme@[::1]:4\n");
  const std::vector<std::string> arguments = {"--hostfile", file.string(),
                                              "--dry-run", "--json", "-n"};
  const auto with = [&](const char* ranks) {
    std::vector<std::string> all = arguments;
    all.emplace_back(ranks);
    return launch(all);
  };
  const nlohmann::json plan = json_of(with("3").output);
  EXPECT_EQ(plan["engine"], "ssh");
  EXPECT_EQ(plan["ranks"][0]["host"], "node1");
  EXPECT_EQ(plan["ranks"][2]["host"], "::1");
  EXPECT_EQ(plan["ranks"][2]["local_rank"], 1);
  const Outcome many = with("6");
  EXPECT_EQ(many.code, kExitUsage);
  EXPECT_THAT(many.error, HasSubstr("the hosts have 5 slots"));
  write_file_atomically(file, "node1\nnode1\n");
  EXPECT_EQ(with("2").code, kExitConfig);
}

TEST_F(RemoteLaunchTest, AJobOfOneToTwoMachinesGoesOnWithOne) {
  // The machine "node1" can be reached once.
  const std::string path =
      ssh_does(fmt::format("case \"$*\" in *node1*)\n"
                           "  mkdir {0}/once || exit 255;; esac\n"
                           "for last; do :; done\n"
                           "exec sh -c \"exec $last\"\n",
                           folder_.string()));
  ranks_do(note_agent() + R"(
echo "rank $CATENA_RANK of $CATENA_WORLD_SIZE in $CATENA_GENERATION"
say joined; say "step 3"
[ $CATENA_GENERATION = 1 ] || { say done; exit 0; }
[ $RANK = 3 ] && touch $RUN/ready
exec sleep 100)");
  Program program = start(
      {"--hosts", "node1,node2", "--nnodes", "1:2", "--nproc-per-node", "2",
       "--address", "127.0.0.1", "--lease", "1", "--rejoin-timeout", "1"},
      {path});
  wait_for("ready");
  ::kill(agent_of(0), SIGKILL);
  const Outcome outcome = program.wait();
  EXPECT_EQ(outcome.code, 0) << outcome.error;
  EXPECT_THAT(outcome.error,
              AllOf(HasSubstr("begins without agents 0 (node1): 1 of 2"),
                    HasSubstr("\nrank 0 of 2 in 2\n")));
  EXPECT_EQ(result()["generation"], 2);
  EXPECT_EQ(result()["ranks"], 2);
  EXPECT_EQ(result()["rank_states"].size(), 2U);
  expect_none_left();
}

TEST_F(RemoteLaunchTest, ATimeToRejoinThatNeverEndsIsRefused) {
  const Outcome outcome =
      launch({"--agents", "2", "--nnodes", "1:2", "--start-timeout", "30"});
  EXPECT_EQ(outcome.code, kExitUsage);
  EXPECT_THAT(outcome.error, HasSubstr("--rejoin-timeout 30"));
}

TEST_F(RemoteLaunchTest, AHostThatCannotBeReachedEndsTheJobAndIsNamed) {
  ranks_do("");
  const Outcome outcome =
      launch({"-n", "2", "--hosts", "node1,node2", "--address", "127.0.0.1"},
             {ssh_does("exit 255")});
  EXPECT_EQ(outcome.code, kExitNotAssembled);
  EXPECT_THAT(outcome.error,
              HasSubstr("ssh ended with code 255 before it had connected"));
  EXPECT_EQ(launch({"-n", "2", "--hosts=-oProxyCommand=x,b"}).code,
            kExitConfig);
  EXPECT_EQ(launch({"-n", "1", "--agents", "2"}).code, kExitUsage);
}

TEST_F(RemoteLaunchTest, StrangersAtThePortChangeNothing) {
  ranks_do(note_agent() + R"(
say joined; touch $RUN/ready-$RANK
while [ ! -e $RUN/go ]; do sleep 0.05; done
say done)");
  Program program = start({"-n", "2", "--agents", "2"});
  wait_for("ready-0");
  wait_for("ready-1");
  namespace asio = boost::asio;
  asio::io_context context;
  int reached = 0;
  for (const int port : ports_of(program.process())) {
    for (int i = 0; i < 300; ++i) {
      asio::ip::tcp::socket socket(context);
      boost::system::error_code error;
      socket.connect(
          {asio::ip::address_v4::loopback(), static_cast<unsigned short>(port)},
          error);
      if (error) continue;
      ++reached;
      asio::write(socket, asio::buffer(std::string(i, 'x')), error);
    }
  }
  EXPECT_GE(reached, 300);
  // The dashboard's port is not the launcher's of control.
  const auto counted = [this] {
    const nlohmann::json json = result();
    int all = 0;
    for (const int count : json["control"]["connections_rejected"]) {
      all += count;
    }
    return all;
  };
  for (int i = 0; i < 600 && counted() < 300; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  EXPECT_EQ(counted(), 300) << "while the job runs";
  write_file_atomically(run() / "go", "");
  const Outcome outcome = program.wait();
  EXPECT_EQ(outcome.code, 0) << outcome.error;
  EXPECT_EQ(result()["generation"], 1);
  EXPECT_THAT(outcome.error, HasSubstr("was turned away"));
}

}  // namespace
}  // namespace catena::launcher
