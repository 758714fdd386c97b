#include "launcher/monitor/thinned_series.h"

#include <cmath>
#include <limits>
#include <utility>

#include "runtime/base/error.h"

namespace catena::launcher {

ThinnedSeries::ThinnedSeries(std::size_t columns, std::size_t capacity)
    : columns_(columns), capacity_(capacity) {
  CATENA_CHECK(capacity >= 2 && capacity % 2 == 0, "[series] capacity {}",
               capacity);
}

void ThinnedSeries::add(std::int64_t step, std::span<const double> values) {
  CATENA_CHECK(values.size() == columns_, "[series] {} values of {} columns",
               values.size(), columns_);
  if (points_.empty() || points_.back().rows == stride_) {
    if (points_.size() == capacity_) halve();
    if (points_.empty() || points_.back().rows == stride_) {
      points_.push_back({step, 0, std::vector<double>(columns_),
                         std::vector<double>(columns_)});
    }
  }
  Sums& last = points_.back();
  last.step = step;
  ++last.rows;
  for (std::size_t i = 0; i < columns_; ++i) {
    if (!std::isfinite(values[i])) continue;
    last.sum[i] += values[i];
    last.count[i] += 1;
  }
  ++rows_;
}

void ThinnedSeries::halve() {
  for (std::size_t i = 0; i < points_.size() / 2; ++i) {
    Sums merged = std::move(points_[2 * i]);
    const Sums& other = points_[2 * i + 1];
    merged.step = other.step;
    merged.rows += other.rows;
    for (std::size_t c = 0; c < columns_; ++c) {
      merged.sum[c] += other.sum[c];
      merged.count[c] += other.count[c];
    }
    points_[i] = std::move(merged);
  }
  points_.resize(points_.size() / 2);
  stride_ *= 2;
}

void ThinnedSeries::clear() {
  points_.clear();
  stride_ = 1;
  rows_ = 0;
}

std::vector<ThinnedSeries::Point> ThinnedSeries::points() const {
  std::vector<Point> result;
  for (const Sums& sums : points_) {
    Point point{sums.step, std::vector<double>(columns_)};
    for (std::size_t i = 0; i < columns_; ++i) {
      point.values[i] = sums.count[i] > 0
                            ? sums.sum[i] / sums.count[i]
                            : std::numeric_limits<double>::quiet_NaN();
    }
    result.push_back(std::move(point));
  }
  return result;
}

}  // namespace catena::launcher
