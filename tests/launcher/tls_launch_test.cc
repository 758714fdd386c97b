// `catena launch` with agents that it speaks to by TLS, or not; a shell script
// plays the ranks, and ssh.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

#include "launcher/contract.h"
#include "launcher/engines.h"
#include "tests/launcher/launched.h"

namespace catena::launcher {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

class TlsLaunchTest : public Launched {};

TEST_F(TlsLaunchTest, AgentsAndLauncherSpeakByTlsWhereTheyAreToldTo) {
  ranks_do(note_agent() + R"(
say joined
[ $CATENA_GENERATION = 1 ] || { say done; exit 0; }
[ $RANK = 3 ] && kill -9 $$
exec sleep 100)");
  const Outcome outcome =
      launch({"-n", "4", "--agents", "2", "--tls", "on", "--lease", "5"});
  EXPECT_EQ(outcome.code, 0) << outcome.error;
  EXPECT_THAT(outcome.error, HasSubstr("connect to 127.0.0.1 by TLS 1.3"));
  EXPECT_EQ(result()["generation"], 2);
  EXPECT_EQ(result()["control"]["connections_rejected"]["tls"], 0);
  expect_none_left();
}

TEST_F(TlsLaunchTest, TlsIsOnUnlessAgentsAreOnTheLoopback) {
  ranks_do("say joined; say done");
  // What an agent is invited with is kept, and passed on.
  const std::string path = program_does(
      "ssh",
      fmt::format("read -r line\n"
                  "printf '%s\\n' \"$line\" >> {}/invitations\n"
                  "for last; do :; done\n"
                  "{{ printf '%s\\n' \"$line\"; cat; }} | sh -c \"$last\"\n",
                  folder_.string()));
  const auto invited = [&](const std::vector<std::string>& more,
                           const std::string& variable) {
    fs::remove_all(run());
    std::vector<std::string> all = {"-n",    "1",         "--hosts",
                                    "node1", "--address", "127.0.0.1"};
    all.insert(all.end(), more.begin(), more.end());
    const Outcome outcome = launch(all, {path, variable});
    EXPECT_EQ(outcome.code, 0) << outcome.error;
    std::istringstream lines(read_file(folder_ / "invitations"));
    std::string line, last;
    while (std::getline(lines, line)) last = line;
    return json_of(last)["tls"].get<bool>();
  };
  EXPECT_FALSE(invited({}, "CATENA_TLS"));
  EXPECT_TRUE(invited({"--tls", "on"}, "CATENA_TLS"));
  EXPECT_TRUE(invited({}, "CATENA_TLS=on"));
  EXPECT_FALSE(invited({"--tls=auto"}, "CATENA_TLS=on"));
  EXPECT_FALSE(invited({"--tls=off"}, "CATENA_TLS"));
  EXPECT_EQ(launch({"-n", "1", "--tls", "maybe"}).code, kExitUsage);
  const Outcome mpi = launch({"-n", "2", "--engine", "mpi", "--tls", "on"});
  EXPECT_EQ(mpi.code, kExitUsage);
  EXPECT_THAT(mpi.error, HasSubstr("--tls on: mpirun"));
}

TEST(LoopbackTest, IsWhatDoesNotLeaveTheMachine) {
  for (const char* local :
       {"127.0.0.1", "127.3.2.1", "::1", "::ffff:127.0.0.1"}) {
    EXPECT_TRUE(is_loopback(local)) << local;
  }
  for (const char* other :
       {"10.0.0.1", "0.0.0.0", "fd00::3", "::", "::ffff:10.0.0.1", "node1"}) {
    EXPECT_FALSE(is_loopback(other)) << other;
  }
}

}  // namespace
}  // namespace catena::launcher
