#include <time.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <numeric>
#include <thread>
#include <vector>

#include "launcher/preflight/machine_probe.h"
#include "runtime/base/machine.h"

namespace catena::launcher {
namespace {

constexpr std::size_t kLanes = 64;
constexpr int kSteps = 2000;
constexpr int kRounds = 3;
constexpr std::chrono::milliseconds kRoundTime(20);

/// 2 * kLanes * kSteps operations. What it returns depends on all of them.
float compute(float factor) {
  std::array<float, kLanes> sums{};
  for (int step = 0; step < kSteps; ++step) {
    for (float& sum : sums) sum = sum * factor + 1.0F;
  }
  float all = 0;
  for (const float sum : sums) all += sum;
  return all;
}

/// That this thread has run.
double thread_seconds() {
  constexpr double kNanosecond = 1e-9;
  timespec time{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) +
         kNanosecond * static_cast<double>(time.tv_nsec);
}

/// Until kRoundTime has passed. Returns operations a second of the thread's own
/// time: who shares the cores for now says nothing of the machine.
double speed_of_thread() {
  const volatile float factor = 0.5F;
  volatile float used = 0;
  const auto end = std::chrono::steady_clock::now() + kRoundTime;
  const double begin = thread_seconds();
  std::int64_t blocks = 0;
  do {
    used = compute(factor);
    ++blocks;
  } while (std::chrono::steady_clock::now() < end);
  static_cast<void>(used);
  return 2.0 * kLanes * kSteps * static_cast<double>(blocks) /
         (thread_seconds() - begin);
}

double speed_of(std::size_t threads) {
  std::vector<double> speeds(threads);
  // Where one cannot be started, those there are have to be waited for.
  std::vector<std::jthread> others;
  for (std::size_t i = 1; i < threads; ++i) {
    others.emplace_back([&speeds, i] { speeds[i] = speed_of_thread(); });
  }
  speeds[0] = speed_of_thread();
  others.clear();
  return std::accumulate(speeds.begin(), speeds.end(), 0.0);
}

}  // namespace

ComputeFacts probe_compute() {
  const auto threads = static_cast<std::size_t>(std::max(1, available_cores()));
  double best = 0;
  for (int i = 0; i < kRounds; ++i) best = std::max(best, speed_of(threads));
  return {best};
}

}  // namespace catena::launcher
