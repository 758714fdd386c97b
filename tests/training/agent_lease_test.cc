// Agents that are stopped, on machines that only ssh reaches.

#include <signal.h>

#include "launcher/contract.h"
#include "tests/training/ranks_fixture.h"

namespace catena {
namespace {

using testing::HasSubstr;

class AgentLeaseTest : public RanksFixture {
 protected:
  AgentLeaseTest() {
    const fs::path ssh = write("ssh", fmt::format(R"(#!/bin/sh
for last; do host=$before; before=$last; done
exec 3<&0
setsid sh -c "exec $last" <&3 &
echo $! > {0}/agent-$host
wait $!
)",
                                                  folder_.string()));
    fs::permissions(ssh, fs::perms::owner_all);
  }
  ~AgentLeaseTest() override {
    for (const pid_t process : stopped_) ::kill(process, SIGKILL);
  }

  /// A launcher of two agents, "a" and "b", with a rank each.
  [[nodiscard]] pid_t launch(const std::string& lease) const {
    const std::string train =
        rank_of(2, "run", "--set train.steps=100000 --set checkpoint.every=10");
    return start(fmt::format("launch -n 2 --hosts a,b --address 127.0.0.1 "
                             "--no-preflight --lease {} {}",
                             lease, train.substr(std::string("train ").size())),
                 fmt::format("PATH={}:$PATH", folder_.string()));
  }
  pid_t stop_agent(const std::string& host) {
    const pid_t agent = std::stoi(read_file(folder_ / ("agent-" + host)));
    ::kill(agent, SIGSTOP);
    stopped_.push_back(agent);
    return agent;
  }
  [[nodiscard]] nlohmann::json job() const {
    return json_of(read_file(folder_ / "run" / "job.json"));
  }
  [[nodiscard]] std::string log(int rank) const {
    return read_file(folder_ / "run" / "logs" /
                     fmt::format("rank-{}.log", rank));
  }
  static bool is_over(pid_t process) {
    std::ifstream file(fmt::format("/proc/{}/stat", process));
    std::string text;
    std::getline(file, text);
    const auto end = text.rfind(')');
    return end == std::string::npos || text.at(end + 2) == 'Z';
  }

  std::vector<pid_t> stopped_;
};

// Both: else ranks end as they miss those of the other, which is ended. The
// agents themselves are ended when others take their places, and not before.
TEST_F(AgentLeaseTest, RanksEndThoughTheirAgentsAreStoppedForGood) {
  const pid_t launcher = launch("3");
  wait_for_step("run", 25);
  std::vector<pid_t> ranks;
  for (const char* host : {"a", "b"}) {
    const auto children = children_of(stop_agent(host));
    ranks.insert(ranks.end(), children.begin(), children.end());
  }
  ASSERT_EQ(ranks.size(), 2U);
  wait_until("the end of the ranks",
             [&] { return std::all_of(ranks.begin(), ranks.end(), is_over); });
  // A lease may be over a heartbeat before the other.
  int told = 0;
  for (const int rank : {0, 1}) {
    const std::string said = log(rank);
    told += said.find(
                "\nerror: this rank's agent has heard nothing of the "
                "launcher for ") < said.find("-- generation 2");
  }
  EXPECT_GE(told, 1) << log(0) << log(1);
  wait_until("the next ranks", [&] { return job()["generation"] == 2; });
  wait_until("their first step", [&] { return job()["state"] == "RUNNING"; });
  ::kill(launcher, SIGTERM);
  const Outcome outcome = wait(launcher);
  EXPECT_EQ(outcome.code, kExitPreempted) << outcome.err;
  ASSERT_EQ(job()["restarts"].size(), 1U);
  EXPECT_THAT(outcome.err,
              HasSubstr("nothing was heard of it for 3 s (--lease)"));
}

TEST_F(AgentLeaseTest, AnAgentThatIsStoppedForLessThanALeaseCostsNothing) {
  const pid_t launcher = launch("8");
  wait_for_step("run", 5);
  // By then what it was started with is over, and all are renewed.
  std::this_thread::sleep_for(std::chrono::seconds(11));
  const pid_t agent = stop_agent("b");
  std::this_thread::sleep_for(std::chrono::seconds(3));
  ::kill(agent, SIGCONT);
  const std::int64_t seen = losses("run").back().first;
  wait_for_step("run", seen + 5);
  ::kill(launcher, SIGTERM);
  const Outcome outcome = wait(launcher);
  EXPECT_EQ(outcome.code, kExitPreempted) << outcome.err;
  EXPECT_EQ(job()["generation"], 1);
  EXPECT_EQ(log(1).find("has heard nothing"), std::string::npos);
}

}  // namespace
}  // namespace catena
