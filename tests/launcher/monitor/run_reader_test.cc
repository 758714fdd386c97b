#include "launcher/monitor/run_reader.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "tests/launcher/monitor/run_files.h"

namespace catena::launcher {
namespace {

constexpr std::chrono::milliseconds kLong(60000);

class RunReaderTest : public ::testing::Test {
 protected:
  RunReaderTest() : reader_(files_.path()) {}
  const RunView& read() {
    reader_.refresh(kLong);
    return reader_.view();
  }

  RunFiles files_;
  RunReader reader_;
};

TEST_F(RunReaderTest, AnEmptyFolderIsARunThatHasNotBegun) {
  const RunView& view = read();
  ASSERT_EQ(view.ranks.size(), 1U);
  EXPECT_EQ(view.ranks[0].step, 0);
  EXPECT_EQ(view.steps, 0);
  EXPECT_EQ(view.state(), "RUNNING");
  EXPECT_TRUE(view.series.points().empty());
}

TEST_F(RunReaderTest, ReadsAWholeRun) {
  files_.write_run();
  const RunView& view = read();
  EXPECT_EQ(view.steps, 20);
  EXPECT_EQ(view.state(), "RUNNING");
  ASSERT_EQ(view.ranks.size(), 2U);
  EXPECT_EQ(view.ranks[1].step, 10);
  EXPECT_DOUBLE_EQ(view.ranks[0].busy, 0.5);
  EXPECT_DOUBLE_EQ(view.ranks[1].busy, 1);
  EXPECT_DOUBLE_EQ(view.ranks[1].phases[1].exposed, 1.25);
  EXPECT_DOUBLE_EQ(view.ranks[1].phases[1].bytes, 10000);
  EXPECT_DOUBLE_EQ(view.ranks[0].step_seconds, 6.25);
  const auto points = view.series.points();
  ASSERT_EQ(points.size(), 10U);
  EXPECT_EQ(points[0].values[0], 7);
  EXPECT_STREQ(kColumns[7], "expert_load");
  EXPECT_EQ(points[9].values[7], 3.5);
  EXPECT_STREQ(kColumns[14], "exposed_dispatch");
  EXPECT_EQ(points[9].values[14], 0.125);
  EXPECT_EQ(view.validation.points().size(), 2U);
  EXPECT_EQ(view.validation_loss, 4.5);
  ASSERT_EQ(view.events.size(), 2U);
  EXPECT_EQ(view.skipped, 1);
  EXPECT_EQ(view.checkpoint_step, 10);
  EXPECT_EQ(view.checkpoint_bytes, 5000);
  ASSERT_EQ(view.routing.size(), 2U);
  EXPECT_EQ(view.routing[1].load.at(1).at(1), (std::vector<double>{0, 6, 10}));
  EXPECT_EQ(view.transitions.at(1).at(0).at(8), 10);
  EXPECT_EQ(view.bytes, view.bytes_read);
}

// Without the steps after the checkpoint, as keep_metrics_up_to() does.
TEST_F(RunReaderTest, StepsThatAResumeTakesBackAreGone) {
  files_.write_run();
  (void)read();
  std::string kept;
  for (int number = 1; number <= 4; ++number) kept += RunFiles::step(number);
  files_.replace("metrics.jsonl", kept);
  files_.replace("routing.jsonl", "");
  {
    const RunView& view = read();
    EXPECT_EQ(view.ranks[0].step, 4);
    EXPECT_EQ(view.series.points().size(), 4U);
    EXPECT_TRUE(view.validation.points().empty());
    EXPECT_TRUE(std::isnan(view.validation_loss));
    EXPECT_TRUE(view.events.empty());
    EXPECT_TRUE(view.routing.empty());
    EXPECT_EQ(view.ranks[1].step, 10);
  }
  files_.append("metrics.jsonl", RunFiles::step(5));
  EXPECT_EQ(read().series.points().size(), 5U);
}

TEST_F(RunReaderTest, WhatIsTornOrForeignIsPassedOver) {
  files_.append("metrics.jsonl", "nonsense\n" + RunFiles::step(1) +
                                     "{\"catena_step\":2,\n" +
                                     RunFiles::step(3).substr(0, 100));
  files_.append("job.json", "{\"state\": ");
  files_.append("config.toml", "[train\n");
  const RunView& view = read();
  EXPECT_EQ(view.ranks[0].step, 1);
  EXPECT_TRUE(view.job.is_null());
  EXPECT_EQ(view.steps, 0);
}

TEST_F(RunReaderTest, NothingNewChangesNothing) {
  files_.write_run();
  const auto version = read().version;
  EXPECT_EQ(read().version, version);
  files_.append("ranks/1/metrics.jsonl", RunFiles::step(11, 1));
  EXPECT_NE(read().version, version);
}

TEST_F(RunReaderTest, RanksThatComeLaterAreFound) {
  for (const int ranks : {1, 2, 3, 4, 7, 8}) {
    SCOPED_TRACE(ranks);
    for (int rank = 1; rank < ranks; ++rank) {
      // Some have written less than others, and the last one nothing.
      const std::string name = fmt::format("ranks/{}/metrics.jsonl", rank);
      files_.replace(name, rank + 1 == ranks ? "" : RunFiles::step(rank, rank));
    }
    const RunView& view = read();
    ASSERT_EQ(view.ranks.size(), static_cast<std::size_t>(ranks));
    for (int rank = 1; rank + 1 < ranks; ++rank) {
      EXPECT_EQ(view.ranks[static_cast<std::size_t>(rank)].step, rank);
    }
    EXPECT_EQ(view.ranks.back().step, 0);
  }
}

TEST_F(RunReaderTest, RanksThatTheJobHasNoMoreAreLeftOut) {
  files_.write_run();
  files_.append("ranks/2/metrics.jsonl", RunFiles::step(3, 2));
  files_.append("ranks/3/metrics.jsonl", RunFiles::step(3, 3));
  EXPECT_EQ(read().ranks.size(), 2U);
  std::string job = RunFiles::job("RUNNING");
  job.replace(job.find("\"ranks\":2"), 9, "\"ranks\":4");
  files_.replace("job.json", job);
  ASSERT_EQ(read().ranks.size(), 4U);
  EXPECT_EQ(read().ranks[3].step, 3);
  files_.replace("job.json", RunFiles::job("RUNNING"));
  EXPECT_EQ(read().ranks.size(), 2U);
  EXPECT_EQ(read().ranks[1].step, 10);
  files_.replace("job.json", "{}");
  EXPECT_EQ(read().ranks.size(), 4U) << "a job that does not say how many";
}

TEST_F(RunReaderTest, ALoggedStepStandsForThoseSinceTheOneBefore) {
  files_.append("metrics.jsonl", RunFiles::step(1) + RunFiles::step(5));
  EXPECT_DOUBLE_EQ(read().ranks[0].step_seconds, 5 * 0.625);
}

TEST_F(RunReaderTest, ALongFileIsReadLittleByLittle) {
  for (int number = 1; number <= 3000; ++number) {
    files_.append("metrics.jsonl", RunFiles::step(number));
  }
  reader_.refresh(std::chrono::milliseconds(0));
  EXPECT_LT(reader_.view().bytes_read, reader_.view().bytes);
  const RunView& view = read();
  EXPECT_EQ(view.bytes_read, view.bytes);
  EXPECT_EQ(view.ranks[0].step, 3000);
  EXPECT_LE(view.series.points().size(), RunView::kMostPoints);
}

TEST_F(RunReaderTest, WhereItsTimeIsOverItGoesOnTheNextTime) {
  constexpr int kRanks = 7;
  files_.append("metrics.jsonl", RunFiles::step(1));
  for (int rank = 1; rank < kRanks; ++rank) {
    files_.append(fmt::format("ranks/{}/metrics.jsonl", rank),
                  RunFiles::step(1, rank));
  }
  for (int read = 1; read <= kRanks; ++read) {
    reader_.refresh(std::chrono::milliseconds(0));
    const RunView& view = reader_.view();
    EXPECT_EQ(std::count_if(view.ranks.begin(), view.ranks.end(),
                            [](const RankView& rank) { return rank.step > 0; }),
              read);
    EXPECT_EQ(view.bytes_read < view.bytes, read < kRanks);
  }
}

TEST_F(RunReaderTest, SnapshotsOfRoutingAreThinnedEvenlyAndTheNewestIsThere) {
  for (int step = 1; step <= 200; ++step) {
    files_.append("routing.jsonl", RunFiles::routing(step));
  }
  const RunView& view = read();
  EXPECT_LE(view.routing.size(), RunView::kMostSnapshots);
  EXPECT_EQ(view.routing.front().step, 1);
  EXPECT_EQ(view.routing.back().step, 200);
  for (std::size_t i = 1; i + 1 < view.routing.size(); ++i) {
    EXPECT_EQ(view.routing[i].step - view.routing[i - 1].step, 8);
  }
  for (const RoutingSnapshot& snapshot : view.routing) {
    ASSERT_EQ(snapshot.load.size(), 2U) << snapshot.step;
    EXPECT_EQ(snapshot.load.at(1).at(1).at(2), snapshot.step);
  }
  EXPECT_EQ(view.transitions.at(0).at(0).at(8), 200);
}

}  // namespace
}  // namespace catena::launcher
