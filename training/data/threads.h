#pragma once

#include <algorithm>
#include <thread>

namespace catena::data {

/// `wanted`, or as many as the machine has cores if that is 0.
[[nodiscard]] inline int thread_count(int wanted) {
  if (wanted > 0) return wanted;
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

}  // namespace catena::data
