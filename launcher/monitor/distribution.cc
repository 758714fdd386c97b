#include "launcher/monitor/distribution.h"

#include <algorithm>

namespace catena::launcher {

void Distribution::add(double value) {
  const auto bucket = std::lower_bound(bounds.begin(), bounds.end(), value);
  ++counts[static_cast<std::size_t>(bucket - bounds.begin())];
  sum += value;
}

Distribution doubling(double first, int count) {
  std::vector<double> bounds;
  for (int i = 0; i < count; ++i, first *= 2) bounds.push_back(first);
  return Distribution(std::move(bounds));
}

}  // namespace catena::launcher
