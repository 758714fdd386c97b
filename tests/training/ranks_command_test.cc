// Runs of several ranks, as processes of this machine.

#include <signal.h>

#include "tests/training/ranks_fixture.h"

namespace catena {
namespace {

using testing::HasSubstr;

using RanksCommandTest = RanksFixture;

/// What a resumed run formed anew on its probe row, where that differs at all.
void expect_probe_loss_agrees(const std::string& log) {
  const std::regex line("probe loss ([0-9.]+), was ([0-9.]+) on");
  std::smatch found;
  if (!std::regex_search(log, found, line)) return;
  EXPECT_NEAR(std::stod(found[1]), std::stod(found[2]), 1e-9);
}

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

TEST_F(RanksCommandTest, EveryRankSaysWhatItWaitedForAndWhatItHid) {
  const Outcome outcome =
      run(by(2, 2, "run", "--set parallel.chunks=2 --set train.steps=4"));
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  for (const char* folder : {"run", "run/ranks/1"}) {
    SCOPED_TRACE(folder);
    int steps = 0;
    for (const auto& line : metrics(folder)) {
      if (!line.contains("catena_exchange_seconds")) continue;
      ++steps;
      const auto& phases = line["catena_exchange_seconds"];
      const double step = line["catena_step_duration_seconds"];
      for (const char* phase : {"dispatch", "combine", "gradients"}) {
        ASSERT_TRUE(phases.contains(phase)) << line;
      }
      for (const auto& [phase, seconds] : phases.items()) {
        const double exposed = seconds.at("exposed");
        EXPECT_GE(exposed, 0) << phase;
        EXPECT_LE(exposed, step) << phase;
        EXPECT_GE(seconds.at("overlapped"), 0) << phase;
      }
    }
    EXPECT_EQ(steps, 4);
  }
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
    expect_probe_loss_agrees(outcome.err);
    expect_same_run(name, "one");
  }
}

TEST_F(RanksCommandTest, AnyTypeGoesOnUnderAnotherLayoutToRounding) {
  // One route that flips moves a loss by hundredths at most.
  for (const char* type : {"float32", "bfloat16"}) {
    SCOPED_TRACE(type);
    const std::string precision = fmt::format("--set train.precision={}", type);
    const std::string one = fmt::format("one-{}", type);
    ASSERT_EQ(run(by(1, 0, one, precision)).code, 0);
    ASSERT_EQ(run(by(2, 2, type, precision + " --set train.steps=7")).code, 0);
    const Outcome outcome = run(by(3, 1, type, precision + " --resume"));
    ASSERT_EQ(outcome.code, 0) << outcome.err;
    const auto found = losses(type), expected = losses(one);
    ASSERT_EQ(found.size(), expected.size());
    for (std::size_t i = 0; i < found.size(); ++i) {
      EXPECT_EQ(found[i].first, expected[i].first);
      EXPECT_NEAR(found[i].second, expected[i].second, 2e-2) << i;
    }
  }
}

TEST_F(RanksCommandTest, AnotherProbeLossIsRefusedByOtherRanks) {
  ASSERT_EQ(run(by(2, 2, "run", "--set train.steps=7")).code, 0);
  scale_probe_loss("run", 1.001);
  const Outcome refused = run(by(3, 1, "run", "--resume"));
  EXPECT_EQ(refused.code, 65);
  EXPECT_THAT(refused.err, HasSubstr("on its probe row"));
}

TEST_F(RanksCommandTest, AnotherPlacementGoesOnThoughItRoundsOtherwise) {
  const std::string type = "--set train.precision=bfloat16 ";
  ASSERT_EQ(run(by(4, 4, "run", type + "--set train.steps=7")).code, 0);
  for (const char* change : {"placement=round_robin", "wire=float32"}) {
    fs::copy(folder_ / "run", folder_ / change, fs::copy_options::recursive);
    const Outcome resumed =
        run(by(4, 4, change,
               type + fmt::format("--resume --set parallel.{}", change)));
    EXPECT_EQ(resumed.code, 0) << resumed.err;
    EXPECT_THAT(resumed.err, HasSubstr("probe loss"));
  }
}

TEST_F(RanksCommandTest, ASpikeTakesAllRanksBack) {
  const Outcome back =
      run(by(2, 2, "run",
             "--set train.steps=60 --set spikes.deviations=2 --set "
             "spikes.most_in_a_row=60 --set learning_rate.peak=0.05 --set "
             "spikes.action=rewind"));
  ASSERT_EQ(back.code, 0) << back.err;
  EXPECT_GT(result("run")["rewinds"].get<int>(), 0);
  EXPECT_THAT(back.err, HasSubstr("back to step "));
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
    EXPECT_EQ(errors_in(outcome.err), 1) << outcome.err;
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
  EXPECT_EQ(errors_in(outcome.err), 1) << outcome.err;
  expect_nothing_left();
}

TEST_F(RanksCommandTest, WhereARankWasMissedIsNamed) {
  expect_place_named(SIGKILL, "");
  expect_place_named(SIGSTOP, "");
}

// Outputs are of the same products, which no round parts.
TEST_F(RanksCommandTest, RoundsOfABudgetKeepTheBitsOfTheFirstLoss) {
  const std::string more = "--set train.steps=2";
  ASSERT_EQ(run(by(2, 2, "whole", more)).code, 0);
  ASSERT_EQ(
      run(by(2, 2, "rounds", more + " --set parallel.row_budget=0.4")).code, 0);
  EXPECT_EQ(losses("rounds").at(0), losses("whole").at(0));
  std::int64_t later = 0;
  for (const auto& line : metrics("rounds")) {
    later += line.value("catena_dispatch_later_rounds", std::int64_t{0});
  }
  EXPECT_GT(later, 0);
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

TEST_F(RanksCommandTest, ExpertsMayBePlacedByAFileWithReplicas) {
  const std::string more =
      "--set parallel.placement_file=" + write("placement.toml", R"(ranks = 2
experts = [0, [0, 1], 1, 1, [0, 1], 0, 1]
[[layer]]
number = 1
experts = [[0, 1], [0, 1], [0, 1], [0, 1], [0, 1], [0, 1], 0]
)");
  ASSERT_EQ(run(by(1, 0, "one", more)).code, 0);
  for (const int ranks : {2, 4}) {
    const std::string name = fmt::format("run-{}", ranks);
    const Outcome outcome = run(by(ranks, 2, name, more));
    ASSERT_EQ(outcome.code, 0) << outcome.err;
    EXPECT_THAT(outcome.err, HasSubstr("4 to 7 experts each"));
    expect_same_run(name, "one");
  }
  // From replicas to none, and back.
  ASSERT_EQ(run(by(2, 2, "there", more + " --set train.steps=7")).code, 0);
  ASSERT_EQ(run(by(3, 3, "there", "--resume --set train.steps=9")).code, 0);
  const Outcome back = run(by(4, 2, "there", more + " --resume"));
  ASSERT_EQ(back.code, 0) << back.err;
  expect_same_run("there", "one");
  expect_refused(by(3, 3, "other", more), 78,
                 "placement.toml:1:9: this placement is for 2 ranks");
  EXPECT_FALSE(fs::exists(folder_ / "other"));
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
  EXPECT_EQ(errors_in(outcome.err), 1) << outcome.err;
  EXPECT_THAT(outcome.err, HasSubstr("/nowhere.jsonl"));
  EXPECT_FALSE(fs::exists(folder_ / "run"));
}

}  // namespace
}  // namespace catena
