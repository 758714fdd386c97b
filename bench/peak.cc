#include "bench/peak.h"

#include <atomic>

#include "bench/timing.h"
#include "runtime/cpu/vector.h"

namespace catena::bench {
namespace {

constexpr int kSlices = 9, kPieces = 16;
constexpr double kSliceSeconds = 0.02;

// Enough independent sums that none waits for its own latency.
double repeat_float32(int blocks) {
  constexpr int kSums = 16;
  using V = cpu::Vector<float>;
  V sums[kSums] = {};
  const V scale = cpu::broadcast(0.5F), step = cpu::broadcast(1.0F);
  for (int block = 0; block < blocks; ++block) {
#pragma GCC unroll 16
    for (V& sum : sums) {
      sum = sum * scale + step;
      // Sums that the compiler cannot know to be equal.
#if defined(__x86_64__)
      asm volatile("" : "+v"(sum));
#elif defined(__aarch64__)
      asm volatile("" : "+w"(sum));
#endif
    }
  }
  return 2.0 * cpu::kLanes<float> * kSums * blocks;
}

double repeat(DType dtype, int blocks) {
  return dtype == DType::kBFloat16 ? internal::repeat_bfloat16(blocks)
                                   : repeat_float32(blocks);
}

// FLOPs a second of one slice. In pieces, so that a thread which is held up
// has fewer of them.
double slice(cpu::ThreadPool& pool, DType dtype, int blocks) {
  const int pieces = kPieces * pool.threads();
  std::atomic<double> done = 0;
  const double seconds = seconds_of([&] {
    pool.run(pieces, [&](std::int64_t, int) {
      done.store(repeat(dtype, blocks), std::memory_order_relaxed);
    });
  });
  return done * pieces / seconds;
}

}  // namespace

Rate peak_flops(cpu::ThreadPool& pool, DType dtype) {
  constexpr int kTrial = 10'000;
  double trial = 1;
  for (int i = 0; i < kSlices; ++i) {
    trial = std::min(trial, seconds_of([&] { slice(pool, dtype, kTrial); }));
  }
  const int blocks = static_cast<int>(kTrial * kSliceSeconds / trial);
  std::vector<double> rates;
  for (int i = 0; i < kSlices; ++i) rates.push_back(slice(pool, dtype, blocks));
  return {median(rates), *std::max_element(rates.begin(), rates.end())};
}

}  // namespace catena::bench
