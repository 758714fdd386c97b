#include "launcher/watch_frame.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

namespace catena::launcher {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using Lines = std::vector<std::string>;

std::size_t width_of(const std::string& line) {
  std::size_t width = 0;
  for (const char c : line) {
    if ((static_cast<unsigned char>(c) & 0xc0) != 0x80) ++width;
  }
  return width;
}

WatchView view_of(int ranks) {
  WatchView view;
  view.status = {.run = "runs/quickstart",
                 .launched = true,
                 .state = "RUNNING",
                 .generation = 2,
                 .restarts = 1,
                 .checkpoint_step = 100};
  for (int rank = 0; rank < ranks; ++rank) {
    view.status.ranks.push_back(
        {.rank = rank,
         .state = "running",
         .newest = StepMetrics{120, 3.25, 9800.0, 0.2, 1.62, 0.12},
         .silent_seconds = 1.0});
  }
  for (int step = 1; step <= 120; ++step) {
    view.losses.push_back({step, 2 + 6.0 / step});
  }
  view.events = {"17:11:45 error launch: rank 2 ended with code 70:",
                 "17:11:46 info launch: restart 1 of 3 from step 100"};
  return view;
}

std::string joined(const Lines& lines) {
  std::string text;
  for (const std::string& line : lines) text += line + "\n";
  return text;
}

TEST(WatchFrameTest, ShowsWhatARunDoes) {
  const std::string text = joined(watch_frame(view_of(4), 100, 0, false));
  for (const char* part :
       {"runs/quickstart   RUNNING, generation 2, 1 restart", "step 120",
        "loss 3.2500", "9.8k tok/s", "experts 1.62",
        "exposed communication 12%", "checkpoint 100", "8.0000", "█",
        "    3  running", "restart 1 of 3 from step 100"}) {
    EXPECT_THAT(text, HasSubstr(part));
  }
  EXPECT_THAT(text, Not(HasSubstr("\x1b")));
  EXPECT_THAT(joined(watch_frame(view_of(4), 100, 0, true)),
              HasSubstr("\x1b[32mruns/quickstart"));
}

TEST(WatchFrameTest, FitsEveryScreen) {
  for (const int ranks : {1, 2, 3, 4, 7, 8, 300}) {
    for (const int columns : {1, 5, 20, 40, 80, 200}) {
      for (int rows = 1; rows < 60; ++rows) {
        const Lines lines = watch_frame(view_of(ranks), columns, rows, false);
        ASSERT_LE(lines.size(), static_cast<std::size_t>(rows));
        for (const std::string& line : lines) {
          ASSERT_LE(width_of(line), static_cast<std::size_t>(columns)) << line;
        }
        EXPECT_EQ(lines.back(), cut("q quits", columns));
      }
    }
  }
  EXPECT_THAT(joined(watch_frame(view_of(300), 80, 24, false)),
              HasSubstr("more: catena status"));
}

TEST(WatchFrameTest, ARunWithoutAnythingIsDrawn) {
  WatchView view;
  view.status.run = "r";
  view.status.state = "STARTING";
  EXPECT_THAT(joined(watch_frame(view, 80, 24, true)),
              HasSubstr("no step yet"));
}

TEST(LossChartTest, IsDrawnFromLowToHigh) {
  EXPECT_THAT(
      loss_chart({{1, 1}, {2, 2}, {3, 3}, {4, 4}}, 20, 3),
      ElementsAre("   4.0000   ▃█", "   1.0000 ▁▆██", "          step 1   4"));
}

TEST(LossChartTest, TakesMeansWhereThereAreMorePoints) {
  std::vector<LossPoint> losses;
  for (int i = 0; i < 1000; ++i) losses.push_back({i, i < 500 ? 2.0 : 1.0});
  const Lines lines = loss_chart(losses, 30, 2);
  ASSERT_EQ(lines.size(), 2U);
  EXPECT_EQ(width_of(lines[0]), 30U);
}

TEST(LossChartTest, LeavesOutWhatIsNotFinite) {
  constexpr double kNone = std::numeric_limits<double>::quiet_NaN();
  EXPECT_THAT(loss_chart({{1, kNone}}, 40, 5), IsEmpty());
  EXPECT_THAT(loss_chart({}, 40, 5), IsEmpty());
  EXPECT_EQ(loss_chart({{1, 2}, {2, kNone}, {3, 2}}, 40, 2)[0], "   2.0000 ▁▁");
}

TEST(CutTest, LeavesNothingThatMovesACursor) {
  EXPECT_EQ(cut("a\x1b[2Jb\tc\r", 80), "a?[2Jb c?");
  EXPECT_EQ(cut("\xc2\x9b"
                "2J",
                80),
            "??2J");
  EXPECT_EQ(cut("é█x", 2), "é█");
  EXPECT_EQ(cut("\xff\xe2\x96", 80), "???");
}

}  // namespace
}  // namespace catena::launcher
