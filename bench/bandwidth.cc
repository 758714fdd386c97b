#include "bench/bandwidth.h"

#include <array>

#include "bench/timing.h"

namespace catena::bench {
namespace {

constexpr int kRounds = 9;

// Four arrays of float32 and one of bfloat16, which nothing else reads.
struct Arrays {
  Arrays(Backend& backend, std::int64_t count)
      : x(backend, DType::kFloat32, {count}),
        gradient(backend, DType::kFloat32, {count}),
        m(backend, DType::kFloat32, {count}),
        v(backend, DType::kFloat32, {count}),
        copy(backend, DType::kBFloat16, {count}) {}

  Tensor x, gradient, m, v, copy;
};

// Calls work(begin, end) for all of [0, count), in pieces so large that each
// is a stream, and so many that a thread which is held up has fewer.
template <class Work>
void in_parts(cpu::ThreadPool& pool, std::int64_t count, const Work& work) {
  constexpr std::int64_t kPiece = std::int64_t{1} << 18;
  pool.run((count + kPiece - 1) / kPiece, [&](std::int64_t i, int) {
    work(i * kPiece, std::min(count, (i + 1) * kPiece));
  });
}

void triad(cpu::ThreadPool& pool, const Arrays& arrays, std::int64_t count) {
  float* __restrict a = arrays.x.view().as<float>();
  const float* __restrict b = arrays.m.view().as<float>();
  const float* __restrict c = arrays.v.view().as<float>();
  in_parts(pool, count, [=](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) a[i] = b[i] + 3.0F * c[i];
  });
}

void in_place(cpu::ThreadPool& pool, const Arrays& arrays, std::int64_t count,
              bool with_copy) {
  float* __restrict a = arrays.x.view().as<float>();
  float* __restrict b = arrays.gradient.view().as<float>();
  float* __restrict c = arrays.m.view().as<float>();
  float* __restrict d = arrays.v.view().as<float>();
  auto* __restrict copy =
      reinterpret_cast<std::int16_t*>(arrays.copy.view().as<BFloat16>());
  in_parts(pool, count, [=](std::int64_t begin, std::int64_t end) {
    if (with_copy) {
      for (std::int64_t i = begin; i < end; ++i) {
        a[i] += 1.0F, b[i] += 1.0F, c[i] += 1.0F, d[i] += 1.0F;
        copy[i] = static_cast<std::int16_t>(i);
      }
    } else {
      for (std::int64_t i = begin; i < end; ++i) {
        a[i] += 1.0F, b[i] += 1.0F, c[i] += 1.0F, d[i] += 1.0F;
      }
    }
  });
}

void adamw(Backend& backend, const Arrays& arrays, bool with_copy,
           std::int64_t step) {
  backend.kernels()(AdamW{.x = arrays.x.view(),
                          .gradient = arrays.gradient.view(),
                          .m = arrays.m.view(),
                          .v = arrays.v.view(),
                          .copy = with_copy ? arrays.copy.view() : TensorView(),
                          .rate = 1e-3,
                          .beta1 = 0.9,
                          .beta2 = 0.95,
                          .epsilon = 1e-8,
                          .decay = 0.01,
                          .gradient_scale = 1,
                          .step = step});
}

Rate rate(const std::vector<double>& seconds, double bytes) {
  return {bytes / median(seconds),
          bytes / *std::min_element(seconds.begin(), seconds.end())};
}

}  // namespace

Bandwidth measure_bandwidth(Backend& backend, cpu::ThreadPool& pool,
                            std::int64_t count) {
  const Arrays arrays(backend, count);
  std::array<std::vector<double>, 5> seconds;
  for (int round = 1; round <= kRounds; ++round) {
    const auto time = [&](std::size_t which, const auto& work) {
      seconds[which].push_back(seconds_of(work));
    };
    time(0, [&] { triad(pool, arrays, count); });
    time(1, [&] { in_place(pool, arrays, count, false); });
    time(2, [&] { adamw(backend, arrays, false, round); });
    time(3, [&] { in_place(pool, arrays, count, true); });
    time(4, [&] { adamw(backend, arrays, true, round); });
  }
  const auto numbers = static_cast<double>(count);
  return {.triad = rate(seconds[0], 12 * numbers),
          .in_place = rate(seconds[1], 32 * numbers),
          .in_place_and_copy = rate(seconds[3], 34 * numbers),
          .adamw = rate(seconds[2], 32 * numbers),
          .adamw_and_copy = rate(seconds[4], 34 * numbers)};
}

}  // namespace catena::bench
