// Runs of several ranks, as processes of this machine.

#include <signal.h>

#include <cmath>
#include <map>
#include <set>

#include "runtime/safetensors.h"
#include "tests/training/run_fixture.h"
#include "training/checkpoint/tensors.h"

namespace catena {
namespace {

using testing::HasSubstr;
using testing::Not;

/// Twelve steps in float64, a checkpoint every fourth.
class RanksCommandTest : public RunFixture {
 protected:
  [[nodiscard]] std::string by(int ranks, int expert, const std::string& run,
                               const std::string& more = "") const {
    return small(run,
                 fmt::format("--ranks {} --set parallel.expert={} --set "
                             "train.steps=12 --set checkpoint.every=4 --set "
                             "train.precision=float64 {}",
                             ranks, expert, more));
  }
  /// Weights and moments of the newest checkpoint, by name.
  [[nodiscard]] std::map<std::string, std::vector<double>> state(
      const std::string& run) const {
    std::map<std::string, std::vector<double>> result;
    const auto place = newest_checkpoint(checkpoints(run));
    if (!place.has_value()) {
      ADD_FAILURE() << run << " has no checkpoint";
      return result;
    }
    for (const char* prefix : {"model", "optimizer"}) {
      for (const fs::path& path : tensor_files(place->folder, prefix)) {
        const Safetensors file = Safetensors::open(path);
        for (const std::string& name : file.names()) {
          const auto data = file.find(name).data;
          std::vector<double> values(data.size() / sizeof(double));
          std::memcpy(values.data(), data.data(), data.size());
          EXPECT_TRUE(result.emplace(name, values).second) << name << " twice";
        }
      }
    }
    return result;
  }
  void expect_same_run(const std::string& found,
                       const std::string& expected) const {
    const auto losses_found = losses(found), losses_expected = losses(expected);
    ASSERT_EQ(losses_found.size(), losses_expected.size());
    for (std::size_t i = 0; i < losses_found.size(); ++i) {
      EXPECT_EQ(losses_found[i].first, losses_expected[i].first);
      EXPECT_NEAR(losses_found[i].second, losses_expected[i].second, 1e-9);
    }
    const auto state_found = state(found), state_expected = state(expected);
    EXPECT_EQ(state_found.size(), state_expected.size());
    for (const auto& [name, values] : state_expected) {
      ASSERT_TRUE(state_found.contains(name)) << name;
      const auto& others = state_found.at(name);
      ASSERT_EQ(others.size(), values.size()) << name;
      for (std::size_t i = 0; i < values.size(); ++i) {
        ASSERT_NEAR(others[i], values[i], 1e-7) << name << ", element " << i;
      }
    }
  }
  /// Processes of this test that are ranks, by parent.
  static std::vector<pid_t> children_of(pid_t parent) {
    std::vector<pid_t> result;
    for (const auto& entry : fs::directory_iterator("/proc")) {
      const std::string name = entry.path().filename().string();
      if (name.find_first_not_of("0123456789") != std::string::npos) continue;
      std::ifstream file(entry.path() / "stat");
      std::string text;
      std::getline(file, text);
      const auto end = text.rfind(')');
      if (end == std::string::npos) continue;
      std::istringstream rest(text.substr(end + 1));
      char status = 0;
      pid_t of = 0;
      rest >> status >> of;
      if (of == parent) result.push_back(std::stoi(name));
    }
    std::sort(result.begin(), result.end());
    return result;
  }
  static std::set<std::string> shared_names() {
    std::set<std::string> names;
    for (const auto& entry : fs::directory_iterator("/dev/shm")) {
      const std::string name = entry.path().filename().string();
      if (name.starts_with("catena-")) names.insert(name);
    }
    return names;
  }
  /// Other tests may be at work there, and give back what they took.
  void expect_nothing_left() const {
    wait_until("an empty /dev/shm", [&] {
      const auto now = shared_names();
      return std::all_of(now.begin(), now.end(), [&](const auto& name) {
        return before_.contains(name);
      });
    });
  }

  std::set<std::string> before_ = shared_names();
};

TEST_F(RanksCommandTest, AnyLayoutGivesTheSameRun) {
  ASSERT_EQ(run(by(1, 0, "one")).code, 0);
  for (const auto& [ranks, expert] :
       {std::pair{2, 1}, {2, 2}, {3, 3}, {4, 2}}) {
    const std::string name = fmt::format("run-{}-{}", ranks, expert);
    SCOPED_TRACE(name);
    const Outcome outcome =
        run(by(ranks, expert, name, "--set parallel.chunks=2"));
    ASSERT_EQ(outcome.code, 0) << outcome.err;
    EXPECT_THAT(outcome.err, HasSubstr(fmt::format("ranks    {} over", ranks)));
    EXPECT_TRUE(fs::exists(folder_ / name / "ranks" / "1" / "log.txt"));
    expect_same_run(name, "one");
    EXPECT_NEAR(result(name)["validation_loss_after"].get<double>(),
                result("one")["validation_loss_after"].get<double>(), 1e-9);
  }
  expect_nothing_left();
}

TEST_F(RanksCommandTest, AnyLayoutGoesOnFromAnyOther) {
  ASSERT_EQ(run(by(1, 0, "one")).code, 0);
  for (const auto& [first, second] :
       {std::pair{std::pair{1, 0}, std::pair{4, 2}},
        {{4, 2}, {1, 0}},
        {{2, 2}, {3, 1}},
        {{3, 3}, {2, 2}}}) {
    const std::string name = fmt::format(
        "{}x{}-{}x{}", first.first, first.second, second.first, second.second);
    SCOPED_TRACE(name);
    ASSERT_EQ(run(by(first.first, first.second, name,
                     "--set train.steps=7 --set checkpoint.every=0"))
                  .code,
              0);
    const Outcome outcome =
        run(by(second.first, second.second, name, "--resume"));
    ASSERT_EQ(outcome.code, 0) << outcome.err;
    expect_same_run(name, "one");
  }
}

TEST_F(RanksCommandTest, AKilledRankEndsAllAndTheRunGoesOnWithTheSameBits) {
  const std::string more = "--set train.steps=60 --set checkpoint.every=10";
  ASSERT_EQ(run(by(3, 3, "whole", more)).code, 0);
  for (const std::size_t victim : {0U, 2U}) {
    fs::remove_all(folder_ / "run");
    const pid_t parent = start(by(3, 3, "run", more));
    wait_for_step("run", 25);
    const auto ranks = children_of(parent);
    ASSERT_EQ(ranks.size(), 3U);
    const auto begin = std::chrono::steady_clock::now();
    ::kill(ranks[victim], SIGKILL);
    const Outcome outcome = wait(parent);
    EXPECT_LT(std::chrono::steady_clock::now() - begin,
              std::chrono::seconds(20));
    EXPECT_EQ(outcome.code, 128 + SIGKILL) << outcome.err;
    EXPECT_THAT(outcome.err, HasSubstr(fmt::format(
                                 "rank {}: was killed by signal 9", victim)));
    EXPECT_THAT(outcome.err, HasSubstr("noticed: "));
    for (const pid_t rank : ranks) EXPECT_NE(::kill(rank, 0), 0);
    expect_nothing_left();
    const Outcome resumed = run(by(3, 3, "run", more + " --resume"));
    ASSERT_EQ(resumed.code, 0) << resumed.err;
    EXPECT_EQ(state("run"), state("whole"));
    EXPECT_EQ(losses("run"), losses("whole"));
  }
}

TEST_F(RanksCommandTest, AStoppedRankEndsAllAtTheDeadline) {
  const pid_t parent = start(by(2, 2, "run",
                                "--set train.steps=100000 --set "
                                "parallel.timeout=1"));
  wait_for_step("run", 5);
  const auto ranks = children_of(parent);
  ASSERT_EQ(ranks.size(), 2U);
  ::kill(ranks[1], SIGSTOP);
  wait_for_words("has waited 1 s for rank 1 in");
  ::kill(ranks[1], SIGCONT);
  const Outcome outcome = wait(parent);
  EXPECT_EQ(outcome.code, 70) << outcome.err;
  expect_nothing_left();
}

TEST_F(RanksCommandTest, ASignalStopsAllRanksAndSaves) {
  const std::string more = "--set train.steps=60 --set checkpoint.every=0";
  ASSERT_EQ(run(by(2, 2, "whole", more)).code, 0);
  const pid_t parent = start(by(2, 2, "run", more));
  wait_for_step("run", 10);
  ::kill(parent, SIGTERM);
  const Outcome stopped = wait(parent);
  EXPECT_EQ(stopped.code, 75) << stopped.err;
  EXPECT_LT(result("run")["step"], 60);
  const Outcome resumed = run(by(2, 2, "run", more + " --resume"));
  ASSERT_EQ(resumed.code, 0) << resumed.err;
  EXPECT_EQ(state("run"), state("whole"));
}

// Whichever rank is first to say it, after all have written their parts.
TEST_F(RanksCommandTest, TooManySpikesNameTheNewestCheckpoint) {
  const Outcome lost =
      run(by(2, 2, "run",
             "--set learning_rate.peak=1e12 --set optimizer.clip=0 "
             "--set spikes.action=skip --set spikes.most_in_a_row=4 --set "
             "train.precision=float32 --set checkpoint.every=1"));
  EXPECT_EQ(lost.code, 76) << lost.err;
  const auto places = list_checkpoints(checkpoints("run"));
  ASSERT_FALSE(places.empty());
  EXPECT_THAT(lost.err,
              HasSubstr(fmt::format("the last saved weights are in {}",
                                    places[0].folder.string())));
}

TEST_F(RanksCommandTest, LayoutsThatDoNotFitAreRefused) {
  expect_refused(by(4, 3, "run"), 78, "4 ranks do not divide into groups of 3");
  expect_refused(by(8, 8, "run"), 78, "only 7 routed experts");
  EXPECT_FALSE(fs::exists(folder_ / "run"));
}

TEST_F(RanksCommandTest, ABadShardIsSaidOnceByTheRankThatMetIt) {
  const Outcome outcome =
      run(by(2, 2, "run", "--set data.train=/nowhere.jsonl"));
  EXPECT_EQ(outcome.code, 65) << outcome.err;
  EXPECT_THAT(outcome.err, HasSubstr("error: rank 0: "));
  EXPECT_THAT(outcome.err, HasSubstr("/nowhere.jsonl"));
  EXPECT_FALSE(fs::exists(folder_ / "run"));
}

}  // namespace
}  // namespace catena
