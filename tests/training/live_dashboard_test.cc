// The dashboard of real runs of `catena train`.

#include <signal.h>

#include <cstdlib>

#include "launcher/contract.h"
#include "tests/support/http_client.h"
#include "tests/training/ranks_fixture.h"

namespace catena {
namespace {

using testing::AllOf;
using testing::HasSubstr;

class LiveDashboardTest : public RanksFixture {
 protected:
  /// A run that ends when it is asked to.
  static constexpr const char* kLong =
      "--set train.steps=1000000 --set checkpoint.every=50 ";

  /// Of the address that the program said.
  [[nodiscard]] std::uint16_t port() const {
    const fs::path said = folder_ / "err";
    wait_until("an address",
               [&] { return fs::exists(said) && port_in(read_file(said)); });
    return port_in(read_file(said));
  }
};

TEST_F(LiveDashboardTest, OfATrainingIsThereUntilItEnds) {
  for (const int ranks : {1, 3}) {
    const std::string name = fmt::format("run-{}", ranks);
    const std::string command =
        ranks == 1 ? small(name, kLong) : by(ranks, ranks, name, kLong);
    const pid_t trainer = start(command + " --dashboard");
    const std::uint16_t at = port();
    wait_for_step(name, 3);
    EXPECT_THAT(
        http_get(at, "/metrics"),
        AllOf(HasSubstr("\ncatena_step "), HasSubstr("state=\"RUNNING\"} 1")));
    const auto run = json_of(http_get(at, "/api/run"));
    EXPECT_EQ(run["name"], name);
    EXPECT_EQ(run["ranks"].size(), static_cast<std::size_t>(ranks));
    EXPECT_EQ(run["ranks"].back()["state"], "running");
    ::kill(trainer, SIGTERM);
    const Outcome outcome = wait(trainer);
    EXPECT_EQ(outcome.code, kExitPreempted) << outcome.err;
    wait_until("its end", [&] { return http_get(at, "/healthz").empty(); });
    fs::remove(folder_ / "err");
  }
}

TEST_F(LiveDashboardTest, EndsWithATrainerThatIsKilled) {
  const pid_t trainer = start(small("run", kLong) + " --dashboard");
  const std::uint16_t at = port();
  ::kill(trainer, SIGKILL);
  EXPECT_EQ(wait(trainer).code, 128 + SIGKILL);
  wait_until("its end", [&] { return http_get(at, "/healthz").empty(); });
}

TEST_F(LiveDashboardTest, IsNoneOfTheTrainersOwn) {
  const std::string command =
      fmt::format("'{}/catena-train' {} --dashboard 2> '{}'", CATENA_BINARY_DIR,
                  small("run"), (folder_ / "err").string());
  const int status = std::system(command.c_str());
  EXPECT_EQ(WEXITSTATUS(status), kExitUsage);
  EXPECT_THAT(read_file(folder_ / "err"),
              HasSubstr("served by the program catena"));
  EXPECT_FALSE(fs::exists(folder_ / "run"));
}

}  // namespace
}  // namespace catena
