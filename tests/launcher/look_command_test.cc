// The commands that look at a run, and end it, on jobs of real processes that
// a shell script plays.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <pty.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <csignal>
#include <functional>
#include <nlohmann/json.hpp>
#include <thread>

#include "launcher/contract.h"
#include "runtime/base/error.h"
#include "runtime/base/files.h"
#include "tests/launcher/program.h"

namespace catena::launcher {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using Json = nlohmann::json;

constexpr std::chrono::seconds kPatience(120);

/// Polls: the machine may be busy.
bool holds(const std::function<bool()>& what) {
  const auto until = std::chrono::steady_clock::now() + kPatience;
  while (std::chrono::steady_clock::now() < until) {
    if (what()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  return false;
}

class LookCommandTest : public ::testing::Test {
 protected:
  LookCommandTest() {
    std::string name = (fs::temp_directory_path() / "lookXXXXXX").string();
    folder_ = ::mkdtemp(name.data());
  }
  ~LookCommandTest() override { fs::remove_all(folder_); }

  /// Starts a job of ranks that do this; `step N` takes a step.
  [[nodiscard]] Program start(int ranks, const std::string& script) const {
    const fs::path trainer = folder_ / "trainer";
    write_file_atomically(trainer, fmt::format(R"(#!/bin/sh
RUN={0}
if [ "$1" = begin ]; then
  mkdir -p $RUN/ranks/1
  echo '{{"run": "{0}", "transport": "auto", "does_not_fit": ""}}'
  exit 0
fi
RANK=${{CATENA_RANK:-0}}
FILE=$RUN/metrics.jsonl; [ $RANK = 0 ] || FILE=$RUN/ranks/$RANK/metrics.jsonl
mkdir -p $(dirname $FILE)
say() {{ echo "$1" > /proc/self/fd/$CATENA_CONTROL_FD; }}
step() {{
  echo '{{"catena_step":'$1',"catena_loss":{{"train":'$1'.5}},"catena_tokens_per_second":9800}}' >> $FILE
  say "step $1"
}}
{1}
)",
                                               run().string(), script));
    fs::permissions(trainer, fs::perms::owner_all);
    const fs::path config = folder_ / "x.toml";
    write_file_atomically(config, "");
    return {CATENA_PROGRAM,
            {"catena", "launch", "-n", fmt::format("{}", ranks),
             "--grace-period", "60", config.string()},
            {fmt::format("{}={}", kTrainerVariable, trainer.string())}};
  }
  [[nodiscard]] fs::path run() const { return folder_ / "run"; }
  [[nodiscard]] Outcome catena(std::vector<std::string> arguments) const {
    arguments.insert(arguments.begin(), "catena");
    arguments.insert(arguments.begin() + 2, run().string());
    return Program(CATENA_PROGRAM, arguments, {}).wait();
  }
  [[nodiscard]] Json status() const {
    return Json::parse(catena({"status", "--json"}).output);
  }
  [[nodiscard]] bool wait_for_steps(int ranks) const {
    return holds([&] {
      if (!fs::exists(run() / "job.json")) return false;
      const Json json = status();
      for (const Json& rank : json["ranks"]) {
        if (rank["step"] == nullptr) return false;
      }
      return json["state"] == "RUNNING" &&
             json["ranks"].size() == static_cast<std::size_t>(ranks);
    });
  }

  fs::path folder_;
};

constexpr const char* kUntilAsked = R"(
trap 'echo saved; sleep 0.2; exit 75' TERM
echo "hello from all"; echo "I am $RANK"; say joined; step 1
while :; do sleep 0.05; done)";
constexpr const char* kHeedless = R"(
trap '' TERM; say joined; step 1
while :; do sleep 0.05; done)";

TEST_F(LookCommandTest, StatusTellsOfAJobAndItsRanks) {
  for (const int ranks : {1, 2, 3, 4, 7, 8}) {
    SCOPED_TRACE(ranks);
    fs::remove_all(run());
    Program job = start(ranks, kUntilAsked);
    ASSERT_TRUE(wait_for_steps(ranks));
    const Json json = status();
    EXPECT_EQ(json["process"], job.process());
    EXPECT_EQ(json["ranks"][0]["tokens_per_second"], 9800);
    const std::string text = catena({"status"}).output;
    EXPECT_THAT(text, AllOf(HasSubstr("RUNNING, generation 1, 0 restarts"),
                            HasSubstr("9.8k")));
    EXPECT_EQ(catena({"stop"}).code, 0);
    EXPECT_EQ(job.wait().code, kExitPreempted);
    EXPECT_EQ(status()["ranks"][ranks - 1]["state"], "ended");
  }
}

TEST_F(LookCommandTest, StopSavesAndWaits) {
  Program job = start(2, kUntilAsked);
  ASSERT_TRUE(wait_for_steps(2));
  const Outcome stopped = catena({"stop"});
  EXPECT_EQ(stopped.code, 0) << stopped.error;
  EXPECT_THAT(stopped.error, AllOf(HasSubstr("is asked to save and end"),
                                   HasSubstr("PREEMPTED, code 75")));
  // It had ended when that was said.
  EXPECT_EQ(status()["process"], nullptr);
  EXPECT_EQ(job.wait().code, kExitPreempted);
  const Outcome again = catena({"stop"});
  EXPECT_EQ(again.code, 0);
  EXPECT_THAT(again.error, HasSubstr("has ended already: PREEMPTED"));
}

TEST_F(LookCommandTest, StopHasADeadlineAndNowDoesNotWaitForRanks) {
  Program job = start(2, kHeedless);
  ASSERT_TRUE(wait_for_steps(2));
  const Outcome first = catena({"stop", "--timeout", "0.5"});
  EXPECT_EQ(first.code, 1);
  EXPECT_THAT(first.error, HasSubstr("has not ended after 0.5 s (--timeout)"));
  const Outcome now = catena({"stop", "--now"});
  EXPECT_EQ(now.code, 0) << now.error;
  EXPECT_THAT(now.error, HasSubstr("CANCELLED"));
  EXPECT_EQ(job.wait().code, 128 + SIGINT);
}

TEST_F(LookCommandTest, NowIsEnoughByItself) {
  Program job = start(2, kHeedless);
  ASSERT_TRUE(wait_for_steps(2));
  EXPECT_EQ(catena({"stop", "--now"}).code, 0);
  EXPECT_EQ(job.wait().code, 128 + SIGINT);
}

TEST_F(LookCommandTest, AJobWhoseLauncherWasKilledIsLost) {
  Program job = start(2, kUntilAsked);
  ASSERT_TRUE(wait_for_steps(2));
  ::kill(job.process(), SIGKILL);
  EXPECT_EQ(job.wait().signal, SIGKILL);
  EXPECT_EQ(status()["state"], "LOST");
  const Outcome stopped = catena({"stop"});
  EXPECT_EQ(stopped.code, 1);
  EXPECT_THAT(stopped.error, HasSubstr("nobody on this machine is at work"));
}

TEST_F(LookCommandTest, StopSignalsNobodyButTheLauncher) {
  Program job = start(1, kUntilAsked);
  ASSERT_TRUE(wait_for_steps(1));
  EXPECT_EQ(catena({"stop"}).code, 0);
  EXPECT_EQ(job.wait().code, kExitPreempted);
  // Somebody else has the number now.
  Program other("/bin/sleep", {"sleep", "100"}, {});
  write_file_atomically(run() / "launcher.lock",
                        fmt::format("{}\n", other.process()));
  EXPECT_EQ(catena({"stop", "--now"}).code, 0);
  EXPECT_EQ(::kill(other.process(), 0), 0);
}

TEST_F(LookCommandTest, LogsAreMergedAndFollowedThroughARestart) {
  Program job = start(3, R"(
say joined; step 1; echo together; echo "only $RANK"
if [ $CATENA_GENERATION = 1 ]; then
  while [ ! -e $RUN/go ]; do sleep 0.02; done
  [ $RANK = 2 ] && exit 3; exec sleep 100
fi
echo again; say done)");
  ASSERT_TRUE(wait_for_steps(3));
  Program follower(CATENA_PROGRAM,
                   {"catena", "logs", run().string(), "--follow"}, {});
  std::this_thread::sleep_for(std::chrono::milliseconds(500));
  write_file_atomically(run() / "go", "");
  EXPECT_EQ(job.wait().code, 0);
  const Outcome followed = follower.wait();
  EXPECT_EQ(followed.code, 0);
  EXPECT_THAT(followed.output,
              AllOf(HasSubstr("generation 1"), HasSubstr("generation 2"),
                    HasSubstr("again\n")));
  const std::string all = catena({"logs"}).output;
  EXPECT_THAT(all, AllOf(HasSubstr("[0-2] together\n[0]   only 0\n"),
                         HasSubstr("[0-2] again\n")));
  const std::string one = catena({"logs", "--rank", "1", "--tail", "2"}).output;
  EXPECT_EQ(one, "[1]   only 1\n[1]   again\n");
}

TEST_F(LookCommandTest, WatchWithoutATerminalIsOnePicture) {
  Program job = start(2, kUntilAsked);
  ASSERT_TRUE(wait_for_steps(2));
  const Outcome picture = catena({"watch"});
  EXPECT_EQ(picture.code, 0);
  EXPECT_THAT(picture.output, AllOf(HasSubstr("RUNNING"), HasSubstr("step 1"),
                                    Not(HasSubstr("\x1b"))));
  EXPECT_EQ(catena({"stop"}).code, 0);
  EXPECT_EQ(job.wait().code, kExitPreempted);
}

/// `catena watch` in a terminal of 80 x 24.
class WatchedTerminal {
 public:
  explicit WatchedTerminal(const std::string& run) {
    winsize size{.ws_row = 24, .ws_col = 80, .ws_xpixel = 0, .ws_ypixel = 0};
    process_ = ::forkpty(&terminal_, nullptr, nullptr, &size);
    if (process_ != 0) return;
    ::setenv("TERM", "xterm", 1);
    ::setenv("NO_COLOR", "1", 1);
    ::execl(CATENA_PROGRAM, "catena", "watch", run.c_str(), "--every", "0.2",
            nullptr);
    ::_exit(126);
  }
  ~WatchedTerminal() {
    if (process_ > 0) ::kill(process_, SIGKILL);
    if (process_ > 0) ::waitpid(process_, nullptr, 0);
    ::close(terminal_);
  }
  WatchedTerminal(const WatchedTerminal&) = delete;
  WatchedTerminal& operator=(const WatchedTerminal&) = delete;

  /// Reads until `text` is drawn after all that was read before.
  [[nodiscard]] bool shows(const std::string& text) {
    std::string drawn;
    return holds([&] {
      drawn += read();
      return drawn.find(text) != std::string::npos;
    });
  }
  void resize(unsigned short columns, unsigned short rows) const {
    const winsize size{
        .ws_row = rows, .ws_col = columns, .ws_xpixel = 0, .ws_ypixel = 0};
    ::ioctl(terminal_, TIOCSWINSZ, &size);
  }
  void type(char key) const { ASSERT_EQ(::write(terminal_, &key, 1), 1); }
  void signal(int number) const { ::kill(process_, number); }
  [[nodiscard]] int wait() {
    int status = 0;
    std::string ending;
    EXPECT_TRUE(holds([&] {
      ending += read();
      return ::waitpid(process_, &status, WNOHANG) == process_;
    }));
    process_ = -1;
    ending += read();
    // Cursor and first screen are back.
    EXPECT_THAT(ending, HasSubstr("\x1b[?25h\x1b[?1049l"));
    return status;
  }

 private:
  std::string read() const {
    pollfd ready{.fd = terminal_, .events = POLLIN, .revents = 0};
    std::array<char, 65536> part{};
    std::string text;
    while (::poll(&ready, 1, 0) > 0) {
      const ssize_t count = ::read(terminal_, part.data(), part.size());
      if (count <= 0) break;
      text.append(part.data(), static_cast<std::size_t>(count));
    }
    return text;
  }

  int terminal_ = -1, process_ = -1;
};

TEST_F(LookCommandTest, WatchIsRedrawnResizedAndQuit) {
  Program job = start(2, kUntilAsked);
  ASSERT_TRUE(wait_for_steps(2));
  {
    WatchedTerminal terminal(run().string());
    EXPECT_TRUE(terminal.shows("q quits"));
    EXPECT_TRUE(terminal.shows("step 1   loss 1.5000   9.8k tok/s"));
    terminal.resize(20, 10);
    EXPECT_TRUE(terminal.shows("\r\nstep 1   loss 1.5000\x1b[K"));
    terminal.type('q');
    EXPECT_EQ(terminal.wait(), 0);
  }
  {
    WatchedTerminal terminal(run().string());
    EXPECT_TRUE(terminal.shows("RUNNING"));
    EXPECT_EQ(catena({"stop"}).code, 0);
    EXPECT_TRUE(terminal.shows("PREEMPTED"));
    EXPECT_TRUE(terminal.shows("ended; q quits"));
    terminal.signal(SIGTERM);
    EXPECT_EQ(terminal.wait(), 0);
  }
  EXPECT_EQ(job.wait().code, kExitPreempted);
}

TEST_F(LookCommandTest, WrongCommandLinesAreOneClearLine) {
  for (const char* command : {"status", "logs", "watch", "stop"}) {
    const Outcome none =
        Program(CATENA_PROGRAM, {"catena", command, "/nowhere"}, {}).wait();
    EXPECT_EQ(none.code, kExitUsage);
    EXPECT_THAT(none.error, HasSubstr("/nowhere: no run;"));
    const Outcome option =
        Program(CATENA_PROGRAM, {"catena", command, "--wrong"}, {}).wait();
    EXPECT_EQ(option.code, kExitUsage);
    EXPECT_THAT(option.error,
                HasSubstr(fmt::format("see `catena {} --help`", command)));
  }
}

}  // namespace
}  // namespace catena::launcher
