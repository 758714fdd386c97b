// The dashboard of real runs: of `catena train`, and, in a browser, of `catena
// launch` while a rank dies and comes back.

#include <signal.h>
#include <sys/ptrace.h>
#include <sys/wait.h>

#include <cstdlib>
#include <optional>

#include "launcher/contract.h"
#include "tests/support/browser.h"
#include "tests/support/http_client.h"
#include "tests/training/ranks_fixture.h"

namespace catena {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

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

/// A process that does nothing while this lives, whatever signal but SIGKILL it
/// gets: as one that sleeps in the kernel. held(): whether it may be done here.
class HeldProcess {
 public:
  explicit HeldProcess(pid_t process) : process_(process) {
    held_ = ::ptrace(PTRACE_SEIZE, process, nullptr, nullptr) == 0 &&
            ::ptrace(PTRACE_INTERRUPT, process, nullptr, nullptr) == 0 &&
            ::waitpid(process, nullptr, __WALL) == process;
  }
  ~HeldProcess() { ::ptrace(PTRACE_DETACH, process_, nullptr, nullptr); }
  HeldProcess(const HeldProcess&) = delete;
  HeldProcess& operator=(const HeldProcess&) = delete;
  [[nodiscard]] bool held() const { return held_; }

 private:
  pid_t process_;
  bool held_ = false;
};

class LiveBrowserTest : public LiveDashboardTest {
 protected:
  void SetUp() override {
    if (!Browser::installed()) {
      GTEST_SKIP()
          << "NO BROWSER: chromium is not installed, and no rank is "
             "seen to die and come back (Debian: chromium-headless-shell)";
    }
  }
  /// "CLASS: TEXT" of the cell that says how a rank is, and whether it is red.
  [[nodiscard]] std::string state_of(int rank) {
    return browser_
        ->value(fmt::format(R"js((() => {{
      const cell = document.querySelector(
          '#ranks tr:nth-child({}) td:nth-child(2)');
      if (!cell) return 'not there';
      const [red, green, blue] =
          getComputedStyle(cell).color.match(/\d+/g).map(Number);
      const isRed = red > green + 100 && red > blue + 100;
      return `${{cell.className}}: ${{cell.textContent}}` +
          (isRed ? ', red' : '');
    }})())js",
                            rank + 1))
        .get<std::string>();
  }
  /// Pixels of a canvas on which something is drawn.
  [[nodiscard]] int drawn(const char* canvas) {
    return browser_
        ->value(fmt::format(R"js((() => {{
      const canvas = document.getElementById('{}');
      const pixels = canvas.getContext('2d').getImageData(
          0, 0, canvas.width, canvas.height).data;
      let count = 0;
      for (let i = 3; i < pixels.length; i += 4) count += pixels[i] > 0;
      return count;
    }})())js",
                            canvas))
        .get<int>();
  }
  [[nodiscard]] std::string text_of(const char* id) {
    return browser_
        ->value(fmt::format("document.getElementById('{}').textContent", id))
        .get<std::string>();
  }
  void wait_for_state(int rank, const std::string& state) {
    wait_until(state.c_str(), [&] { return state_of(rank) == state; });
  }
  /// Where docs/results gets its pictures from; null: none are made.
  [[nodiscard]] static const char* pictures() {
    return std::getenv("CATENA_PICTURES");
  }
  void picture(const char* name, const Browser::Screen& screen) {
    if (pictures() == nullptr) return;
    browser_->look_on(screen);
    // The page, its curves and maps have as many frames to follow.
    static_cast<void>(browser_->value(R"js(new Promise(done => {
      let left = 5;
      const next = () => left-- ? requestAnimationFrame(next) : done();
      next();
    }))js"));
    browser_->picture(fs::path(pictures()) / name);
  }

  std::optional<Browser> browser_;
};

TEST_F(LiveBrowserTest, ARankIsSeenToDieAndToComeBack) {
  const std::string train =
      rank_of(3, "run",
              fmt::format("--set train.steps={} --set checkpoint.every=5 "
                          "--set validation.every=10 "
                          "--set metrics.routing_every=5",
                          pictures() == nullptr ? 1000000 : 1000));
  const pid_t launcher =
      start("launch -n 3 " + train.substr(std::string("train ").size()));
  const std::string address = fmt::format("http://127.0.0.1:{}/", port());
  wait_for_step("run", 12);
  browser_.emplace(folder_);
  browser_->open(address);
  for (const int rank : {0, 1, 2}) wait_for_state(rank, "good: \u25cf running");
  wait_until("charts",
             [&] { return drawn("loss") > 0 && drawn("transitions") > 0; });
  for (const char* canvas : {"loss", "speed", "time", "balance", "gradient",
                             "memory", "load", "transitions"}) {
    EXPECT_GT(drawn(canvas), 500) << canvas;
  }
  EXPECT_THAT(text_of("events"), Not(HasSubstr("restart")));
  const auto processes = children_of(launcher);
  ASSERT_EQ(processes.size(), 3U);
  {
    // The generation is not over, and the next one waits, while it is held.
    const HeldProcess other(processes[0]);
    if (!other.held()) {
      ::kill(launcher, SIGTERM);
      static_cast<void>(wait(launcher));
      GTEST_SKIP() << "NO PTRACE: a rank cannot be held here, and none is seen "
                      "to die and come back";
    }
    ::kill(processes[1], SIGKILL);
    wait_for_state(1, "bad: \u2716 failed, red");
    picture("dashboard-failed-rank.png", {});
  }
  wait_for_state(1, "good: \u25cf running");
  wait_for_state(0, "good: \u25cf running");
  EXPECT_THAT(text_of("events"),
              HasSubstr("restart 1: rank 1 was killed by signal 9"));
  const std::string before = text_of("steps");
  wait_until("further steps", [&] { return text_of("steps") != before; });
  EXPECT_EQ(text_of("problem"), "");
  if (pictures() != nullptr) wait_for_step("run", 120);
  picture("dashboard-light.png", {});
  picture("dashboard-dark.png", {.dark = true});
  picture("dashboard-phone.png", {.width = 390, .height = 844, .phone = true});
  ::kill(launcher, SIGTERM);
  const Outcome outcome = wait(launcher);
  EXPECT_EQ(outcome.code, kExitPreempted) << outcome.err;
  expect_nothing_left();
}

}  // namespace
}  // namespace catena
