#include "launcher/monitor/thinned_series.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <limits>

namespace catena::launcher {
namespace {

constexpr double kNone = std::numeric_limits<double>::quiet_NaN();

void add(ThinnedSeries& series, std::int64_t step, double a, double b) {
  series.add(step, std::array<double, 2>{a, b});
}

TEST(ThinnedSeriesTest, IsExactAsLongAsThereIsRoom) {
  ThinnedSeries series(2, 4);
  for (int i = 1; i <= 4; ++i) add(series, i, i, -i);
  const auto points = series.points();
  ASSERT_EQ(points.size(), 4U);
  EXPECT_EQ(points[2].step, 3);
  EXPECT_EQ(points[2].values[0], 3);
  EXPECT_EQ(points[2].values[1], -3);
  EXPECT_EQ(series.stride(), 1);
}

TEST(ThinnedSeriesTest, BeyondItPointsAreMeansOfNeighbours) {
  ThinnedSeries series(2, 4);
  for (int i = 1; i <= 5; ++i) add(series, i, i, 10 * i);
  const auto points = series.points();
  ASSERT_EQ(points.size(), 3U);
  EXPECT_EQ(points[0].step, 2);
  EXPECT_EQ(points[0].values[0], 1.5);
  EXPECT_EQ(points[1].values[1], 35);
  EXPECT_EQ(points[2].step, 5);
  EXPECT_EQ(points[2].values[0], 5);
}

TEST(ThinnedSeriesTest, WhatIsNotFiniteEntersNoMean) {
  ThinnedSeries series(2, 2);
  add(series, 1, kNone, 1);
  add(series, 2, 4, kNone);
  add(series, 3, std::numeric_limits<double>::infinity(), kNone);
  const auto points = series.points();
  ASSERT_EQ(points.size(), 2U);
  EXPECT_EQ(points[0].values[0], 4);
  EXPECT_EQ(points[0].values[1], 1);
  EXPECT_TRUE(std::isnan(points[1].values[0]));
}

TEST(ThinnedSeriesTest, MillionsOfRowsKeepTheirMeanInBoundedMemory) {
  ThinnedSeries series(2, 1024);
  constexpr std::int64_t kRows = 3000000;
  for (std::int64_t i = 1; i <= kRows; ++i) {
    add(series, i, static_cast<double>(i), 7);
  }
  const auto points = series.points();
  EXPECT_LE(points.size(), 1024U);
  EXPECT_GT(points.size(), 511U);
  EXPECT_EQ(points.back().step, kRows);
  EXPECT_EQ(series.rows(), kRows);
  const auto stride = static_cast<double>(series.stride());
  for (std::size_t i = 0; i + 1 < points.size(); ++i) {
    const double last = static_cast<double>(points[i].step);
    ASSERT_EQ(last, static_cast<double>(i + 1) * stride);
    ASSERT_DOUBLE_EQ(points[i].values[0], last - (stride - 1) / 2);
    ASSERT_EQ(points[i].values[1], 7);
  }
}

TEST(ThinnedSeriesTest, ClearedItBeginsAnew) {
  ThinnedSeries series(2, 2);
  for (int i = 1; i <= 9; ++i) add(series, i, i, i);
  series.clear();
  EXPECT_TRUE(series.points().empty());
  add(series, 1, 5, 6);
  EXPECT_EQ(series.stride(), 1);
  EXPECT_EQ(series.points().at(0).values[1], 6);
}

}  // namespace
}  // namespace catena::launcher
