// `catena launch` on machines with something wrong: hosts are this machine,
// reached by an ssh that a shell script plays, which does something to the
// agents of some of them first.

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmath>
#include <csignal>

#include "launcher/contract.h"
#include "tests/launcher/launched.h"

namespace catena::launcher {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using Json = nlohmann::json;

constexpr const char* kAll =
    "echo $NODE > $RUN/node-$RANK; say joined; say done";
/// Descriptor 9 of an agent is what the ssh that started it made it.
constexpr const char* kOneFile = R"(, "files": ["/proc/self/fd/9"])";

class PreflightLaunchTest : public Launched {
 protected:
  /// Hosts node1, node2, ...; `trouble` is a script: what happens to $NODE.
  Outcome launch_hosts(const std::string& trouble, const std::string& hosts,
                       std::vector<std::string> more) const {
    more.insert(more.begin(), {"--hosts", hosts, "--address", "127.0.0.1"});
    return launch(more, {with_ssh(trouble)});
  }
  std::string with_ssh(const std::string& trouble) const {
    return program_does("ssh", fmt::format(R"(
for last; do :; done
case "$*" in *node1*) NODE=node1;; *node2*) NODE=node2;; *) NODE=node3;; esac
export NODE
exec 9< /dev/null
{}
exec $last
)",
                                           trouble));
  }
  [[nodiscard]] Json preflight() const {
    return json_of(read_file(run() / "preflight.json"));
  }
  [[nodiscard]] std::string node_of(int rank) const {
    const std::string text = read_file(run() / fmt::format("node-{}", rank));
    return text.substr(0, text.find('\n'));
  }
};

/// A disk that takes no byte.
constexpr const char* kFullDisk =
    "if [ $NODE = node2 ]; then trap '' XFSZ; ulimit -f 0; fi";

/// The agent there is a program whose loops are not optimised.
constexpr const char* kSlow =
    "[ $NODE != node2 ] || last=\"" CATENA_SLOW_PROGRAM " agent\"";

TEST_F(PreflightLaunchTest, MachinesThatAreAlikeAreAllTaken) {
  ranks_do(kAll, R"(, "rank_bytes": 1000, "disk_bytes": 1000, "files": [")" +
                     trainer().string() + "\"]");
  const Outcome outcome = launch_hosts("", "node1,node2", {"-n", "2"});
  EXPECT_EQ(outcome.code, 0) << outcome.error;
  EXPECT_THAT(outcome.error, HasSubstr("preflight "));
  const Json found = preflight();
  EXPECT_EQ(found["chosen"], Json::array({0, 1}));
  EXPECT_TRUE(found["error"].is_null());
  EXPECT_EQ(found["needs"]["rank_bytes"], 1000);
  ASSERT_EQ(found["links"].size(), 1U);
  EXPECT_TRUE(found["links"][0]["failed"].is_null());
  EXPECT_GT(found["links"][0]["bytes_per_second"], 1e5);
  for (const Json& node : found["nodes"]) {
    // How long the answer took is not known of either half of its way.
    EXPECT_LT(std::abs(node["clock_ahead_seconds"].get<double>()) -
                  node["round_trip_seconds"].get<double>() / 2,
              1);
    EXPECT_GT(node["flops"], 1e6);
    EXPECT_GT(node["machine"]["free_memory_bytes"], 0);
    EXPECT_EQ(node["machine"]["file_hashes"][0],
              found["nodes"][0]["machine"]["file_hashes"][0]);
  }
}

TEST_F(PreflightLaunchTest, AgentsOfOneMachineAreNotCompared) {
  ranks_do(kAll);
  const Outcome outcome = launch({"-n", "2", "--agents", "2"});
  EXPECT_EQ(outcome.code, 0) << outcome.error;
  const Json found = preflight();
  EXPECT_EQ(found["chosen"], Json::array({0, 1}));
  EXPECT_EQ(found["links"], Json::array());
  EXPECT_TRUE(found["nodes"][1]["flops"].is_null());
  EXPECT_GT(found["nodes"][1]["machine"]["free_memory_bytes"], 0);
}

TEST_F(PreflightLaunchTest, ASlowMachineIsNamedAndTakesPart) {
  if (CATENA_UNOPTIMISED) GTEST_SKIP() << "no program here is faster than it";
  ranks_do(kAll);
  const Outcome outcome = launch_hosts(kSlow, "node1,node2", {"-n", "2"});
  EXPECT_EQ(outcome.code, 0) << outcome.error;
  EXPECT_THAT(outcome.error,
              AllOf(HasSubstr("1 (node2) is slow: "),
                    HasSubstr("FLOP/s, and the median of the others is"),
                    Not(HasSubstr("(node1) is slow"))));
  EXPECT_EQ(preflight()["chosen"], Json::array({0, 1}));
  EXPECT_EQ(node_of(0) + node_of(1), "node1node2");
}

TEST_F(PreflightLaunchTest, ASlowMachineIsLeftOut) {
  if (CATENA_UNOPTIMISED) GTEST_SKIP() << "no program here is faster than it";
  ranks_do(kAll);
  const std::vector<std::string> fewer = {"--nnodes", "1:2", "--nproc-per-node",
                                          "2", "--exclude-slow"};
  Outcome outcome = launch_hosts(kSlow, "node1,node2", fewer);
  EXPECT_EQ(outcome.code, 0) << outcome.error;
  EXPECT_THAT(outcome.error, HasSubstr("left out: 1 (node2)"));
  EXPECT_EQ(result()["ranks"], 2);
  EXPECT_EQ(node_of(0) + node_of(1), "node1node1");
  const Json finding = preflight()["nodes"][1]["findings"][0];
  EXPECT_EQ(finding["severity"], "slow");
  EXPECT_EQ(finding["probe"], "compute");
  EXPECT_LT(finding["figure"], finding["median"]);

  // Who cannot do without it is told so.
  fs::remove_all(run());
  outcome = launch_hosts(kSlow, "node1,node2", {"-n", "2", "--exclude-slow"});
  EXPECT_EQ(outcome.code, kExitNotAssembled);
  EXPECT_THAT(outcome.error, HasSubstr("1 (node2) is slow"));
}

TEST_F(PreflightLaunchTest, ABusyMachineIsNotRefused) {
  ranks_do(kAll);
  // It runs for a fifth of the time.
  const Outcome outcome = launch_hosts(
      "[ $NODE != node2 ] || while kill -STOP $$; do sleep 0.04; kill -CONT "
      "$$; sleep 0.01; done 2> /dev/null &",
      "node1,node2", {"-n", "2"});
  EXPECT_EQ(outcome.code, 0) << outcome.error;
  EXPECT_EQ(node_of(0) + node_of(1), "node1node2");
}

TEST_F(PreflightLaunchTest, OneMachineIsLookedAtForWhatItLacks) {
  ranks_do(kAll, R"(, "rank_bytes": 1000, "disk_bytes": 2097152)");
  Outcome outcome = launch({"-n", "2"});
  EXPECT_EQ(outcome.code, 0) << outcome.error;
  EXPECT_THAT(outcome.error, HasSubstr("checkpoints take 2 MiB"));
  EXPECT_EQ(preflight()["nodes"].size(), 1U);

  ranks_do(kAll, R"(, "rank_bytes": 1000, "disk_bytes": 4000000000000000000)");
  outcome = launch({"-n", "2"});
  EXPECT_EQ(outcome.code, kExitStorage);
  EXPECT_THAT(outcome.error, HasSubstr("and checkpoints take"));
  EXPECT_EQ(result()["state"], "FAILED");
  EXPECT_EQ(result()["exit_code"], kExitStorage);
  EXPECT_THAT(result()["first_failure"]["text"].get<std::string>(),
              HasSubstr("0 ("));
  const std::string journal = read_file(run() / "journal.jsonl");
  EXPECT_THAT(
      journal.substr(journal.rfind("{\"time")),
      AllOf(HasSubstr(R"("state":"FAILED")"), HasSubstr(R"("exit_code":74)")));
  EXPECT_THAT(preflight()["error"].get<std::string>(), HasSubstr("are free"));

  ranks_do(kAll, R"(, "rank_bytes": 1000000000000000000)");
  EXPECT_EQ(launch({"-n", "2"}).code, kExitDoesNotFit);
  outcome = launch({"-n", "2", "--no-preflight"});
  EXPECT_EQ(outcome.code, 0) << outcome.error;
  EXPECT_THAT(outcome.error, Not(HasSubstr("preflight")));
}

TEST_F(PreflightLaunchTest, ADiskThatTakesNothingEndsTheJobAndIsNamed) {
  ranks_do(kAll);
  const Outcome outcome = launch_hosts(kFullDisk, "node1,node2", {"-n", "2"});
  EXPECT_EQ(outcome.code, kExitStorage);
  EXPECT_THAT(outcome.error,
              AllOf(HasSubstr("1 (node2) is bad: cannot write"),
                    HasSubstr("File too large"), Not(HasSubstr("(node1) is"))));
  EXPECT_FALSE(fs::exists(run() / "node-0"));
}

TEST_F(PreflightLaunchTest, ABadMachineIsLeftOut) {
  ranks_do(kAll);
  const std::vector<std::string> fewer = {"--nnodes", "1:2", "--nproc-per-node",
                                          "2", "--exclude-slow"};
  Outcome outcome = launch_hosts(kFullDisk, "node1,node2", fewer);
  EXPECT_EQ(outcome.code, 0) << outcome.error;
  EXPECT_THAT(outcome.error, HasSubstr("left out: 1 (node2)"));
  EXPECT_EQ(result()["ranks"], 2);
  EXPECT_EQ(node_of(0) + node_of(1), "node1node1");

  // A spare machine takes its place.
  fs::remove_all(run());
  outcome = launch_hosts(kFullDisk, "node1,node2,node3",
                         {"-n", "2", "--nnodes", "2", "--exclude-slow"});
  EXPECT_EQ(outcome.code, 0) << outcome.error;
  EXPECT_EQ(preflight()["chosen"], Json::array({0, 2}));
  EXPECT_EQ(node_of(0) + node_of(1), "node1node3");

  fs::remove_all(run());
  outcome =
      launch_hosts(kFullDisk, "node1,node2", {"-n", "2", "--exclude-slow"});
  EXPECT_EQ(outcome.code, kExitNotAssembled);
  EXPECT_THAT(outcome.error, AllOf(HasSubstr("1 machines are left"),
                                   HasSubstr("1 (node2) is bad")));
}

TEST_F(PreflightLaunchTest, AnotherDataSetIsNamed) {
  ranks_do(kAll, kOneFile);
  const Outcome outcome = launch_hosts("[ $NODE != node2 ] || exec 9< $0",
                                       "node1,node2,node3", {"-n", "3"});
  EXPECT_EQ(outcome.code, kExitConfig);
  EXPECT_THAT(outcome.error,
              HasSubstr("1 (node2) is bad: /proc/self/fd/9 is another file"));
}

TEST_F(PreflightLaunchTest, AMachineThatDoesNotAnswerIsSlow) {
  const fs::path pipe = folder_ / "pipe";
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  // Whoever opens it as a file waits for somebody who writes.
  const std::string hangs = fmt::format(
      "[ $NODE != node2 ] || exec 8<> {0} 9< {0} 8>&-", pipe.string());
  ranks_do(kAll, kOneFile);
  Outcome outcome = launch_hosts(hangs, "node1,node2,node3",
                                 {"-n", "3", "--preflight-timeout", "20"});
  EXPECT_EQ(outcome.code, 0) << outcome.error;
  EXPECT_THAT(outcome.error, HasSubstr("1 (node2) is slow: it did not answer "
                                       "the machine probe in 20 s"));
  EXPECT_EQ(node_of(1), "node2");
  fs::remove_all(run());
  outcome = launch_hosts(hangs, "node1,node2,node3",
                         {"--nnodes", "1:3", "--nproc-per-node", "1",
                          "--exclude-slow", "--preflight-timeout", "20"});
  EXPECT_EQ(outcome.code, 0) << outcome.error;
  EXPECT_THAT(outcome.error, HasSubstr("left out: 1 (node2)"));
  EXPECT_EQ(node_of(0) + node_of(1), "node1node3");
}

TEST_F(PreflightLaunchTest, ASignalEndsIt) {
  ranks_do(kAll);
  Program program =
      start({"-n", "2", "--hosts", "node1,node2", "--address", "127.0.0.1"},
            {with_ssh("[ $NODE != node2 ] || exec cat > /dev/null")});
  wait_for("job.json");
  ::kill(program.process(), SIGTERM);
  const Outcome outcome = program.wait();
  EXPECT_EQ(outcome.code, 128 + SIGTERM) << outcome.error;
  EXPECT_EQ(result()["state"], "CANCELLED");
}

TEST_F(PreflightLaunchTest, TheLaunchersOwnMachineMayHang) {
  const fs::path pipe = folder_ / "pipe";
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  ranks_do(kAll, kOneFile);
  const std::string path = with_ssh("");
  const auto hangs = [&](std::vector<std::string> more) {
    more.insert(more.end(), {"-n", "2", "--hosts", "node1,node2", "--address",
                             "127.0.0.1", "--lease", "1"});
    return start(more, {path});
  };
  // What the launcher has as descriptor 9 nobody writes to.
  ASSERT_EQ(::fcntl(9, F_GETFD), -1);
  const int both = ::open(pipe.c_str(), O_RDWR | O_CLOEXEC);
  const int end = ::open(pipe.c_str(), O_RDONLY | O_CLOEXEC);
  ASSERT_EQ(::dup2(end, 9), 9);
  ::close(both);
  ::close(end);
  Program program = hangs({"--preflight-timeout", "4"});
  const Outcome outcome = program.wait();
  EXPECT_EQ(outcome.code, 0) << outcome.error;
  EXPECT_THAT(outcome.error,
              HasSubstr("the launcher's own machine did not answer in 4 s"));
  EXPECT_EQ(preflight()["chosen"], Json::array({0, 1}));

  fs::remove_all(run());
  Program stopped = hangs({"--preflight-timeout", "600"});
  ::close(9);
  wait_for("job.json");
  ::kill(stopped.process(), SIGTERM);
  EXPECT_EQ(stopped.wait().code, 128 + SIGTERM);
}

/// Is started, and never connects.
constexpr const char* kNeverComes =
    "[ $NODE != node3 ] || exec cat > /dev/null";

TEST_F(PreflightLaunchTest, AllThatCameTakePartWhereOneDoesNotCome) {
  ranks_do(kAll);
  const Outcome outcome =
      launch_hosts(kNeverComes, "node1,node2,node3",
                   {"--nnodes", "1:3", "--nproc-per-node", "1",
                    "--rejoin-timeout", "3", "--lease", "2"});
  EXPECT_EQ(outcome.code, 0) << outcome.error;
  EXPECT_EQ(result()["ranks"], 2);
  EXPECT_EQ(node_of(0) + node_of(1), "node1node2");
}

TEST_F(PreflightLaunchTest, WhoDoesNotComeIsNamed) {
  ranks_do(kAll);
  const Outcome outcome = launch_hosts(kNeverComes, "node1,node2,node3",
                                       {"-n", "3", "--start-timeout", "3"});
  EXPECT_EQ(outcome.code, kExitNotAssembled);
  EXPECT_THAT(outcome.error,
              AllOf(HasSubstr("1 of 3 agents have not come in 3 s: 2 (node3)"),
                    Not(HasSubstr("--no-preflight"))));
  EXPECT_THAT(preflight()["error"].get<std::string>(), HasSubstr("2 (node3)"));
}

TEST_F(PreflightLaunchTest, WhoIsLeftWithoutRanksIsDismissed) {
  ranks_do(kAll);
  const Outcome outcome =
      launch_hosts(kFullDisk, "node2:1,node1:4,node3:4",
                   {"-n", "4", "--nnodes", "2", "--exclude-slow"});
  EXPECT_EQ(outcome.code, 0) << outcome.error;
  EXPECT_THAT(outcome.error, HasSubstr("left out: 0 (node2), 2 (node3)"));
  EXPECT_EQ(preflight()["chosen"], Json::array({1}));
  EXPECT_EQ(node_of(0) + node_of(3), "node1node1");
}

TEST_F(PreflightLaunchTest, TheTimeLimitCountsFromTheLaunch) {
  ranks_do(kAll);
  Outcome outcome = launch_hosts(kNeverComes, "node1,node3",
                                 {"-n", "2", "--time-limit", "2"});
  EXPECT_EQ(outcome.code, kExitTimeLimit) << outcome.error;

  fs::remove_all(run());
  ranks_do("say joined; exec sleep 60");
  outcome =
      launch_hosts("sleep 4", "node1,node2", {"-n", "2", "--time-limit", "7"});
  EXPECT_EQ(outcome.code, kExitTimeLimit) << outcome.error;
  EXPECT_GE(result()["seconds"], 7);
  EXPECT_LT(result()["seconds"], 11);
}

TEST_F(PreflightLaunchTest, FlagsThatContradictEachOtherAreRefused) {
  const Outcome outcome = launch({"--no-preflight", "--exclude-slow"});
  EXPECT_EQ(outcome.code, kExitUsage);
  EXPECT_THAT(outcome.error, HasSubstr("nobody would know who is slow"));
}

}  // namespace
}  // namespace catena::launcher
