#include "parallel/modelled_routing.h"

#include <algorithm>
#include <cmath>

namespace catena {

std::int64_t balanced_copies(std::int64_t tokens, std::int64_t top_k,
                             std::int64_t served, std::int64_t experts) {
  double none = 1;
  for (std::int64_t i = 0; i < top_k; ++i) {
    none *= std::max(0.0, static_cast<double>(experts - served - i)) /
            static_cast<double>(experts - i);
  }
  return static_cast<std::int64_t>(
      std::ceil(static_cast<double>(tokens) * (1 - none)));
}

}  // namespace catena
