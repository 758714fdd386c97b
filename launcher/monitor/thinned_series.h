#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace catena::launcher {

/// Rows of numbers over steps, any number of them in bounded memory: when
/// there are `capacity` points, each two neighbours become their mean, and from
/// then on a point stands for twice as many rows.
/// A number that is not finite is not there: it enters no mean, and a point in
/// which a column has no other is NaN.
/// Thread rule: one thread.
class ThinnedSeries {
 public:
  struct Point {
    std::int64_t step = 0;  ///< of its last row
    std::vector<double> values = {};
  };

  /// capacity: even, 2 or more.
  ThinnedSeries(std::size_t columns, std::size_t capacity);

  /// values: [columns].
  void add(std::int64_t step, std::span<const double> values);
  void clear();
  /// In the order of add(), the last one of the rows that it has so far.
  [[nodiscard]] std::vector<Point> points() const;
  [[nodiscard]] std::int64_t rows() const { return rows_; }
  /// Rows that a point stands for.
  [[nodiscard]] std::int64_t stride() const { return stride_; }

 private:
  struct Sums {
    std::int64_t step = 0, rows = 0;
    std::vector<double> sum = {};
    std::vector<double> count = {};
  };
  void halve();

  std::size_t columns_, capacity_;
  std::int64_t stride_ = 1, rows_ = 0;
  std::vector<Sums> points_;  ///< all but the last are of stride_ rows
};

}  // namespace catena::launcher
