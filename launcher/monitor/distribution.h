#pragma once

#include <cstdint>
#include <utility>
#include <vector>

namespace catena::launcher {

/// Counts in buckets, as a Prometheus histogram has them.
struct Distribution {
  std::vector<double> bounds = {};  ///< upper, ascending; after them infinity
  std::vector<std::int64_t> counts = {};  ///< [bounds + 1], not cumulative
  double sum = 0;

  explicit Distribution(std::vector<double> upper)
      : bounds(std::move(upper)), counts(bounds.size() + 1) {}
  void add(double value);
};

/// With `count` bounds: `first`, and each twice the one before.
[[nodiscard]] Distribution doubling(double first, int count);

}  // namespace catena::launcher
