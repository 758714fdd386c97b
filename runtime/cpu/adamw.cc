#include <algorithm>
#include <cmath>

#include "runtime/cpu/backend.h"
#include "runtime/cpu/rows.h"

namespace catena::cpu {
namespace {

/// The numbers of one step, formed in float64.
template <class W>
struct Step {
  explicit Step(const AdamW& k)
      : beta1(static_cast<W>(k.beta1)),
        beta2(static_cast<W>(k.beta2)),
        rest1(static_cast<W>(1 - k.beta1)),
        rest2(static_cast<W>(1 - k.beta2)),
        keep(static_cast<W>(1 - k.rate * k.decay)),
        rate(static_cast<W>(k.rate / correction(k.beta1, k.step))),
        root(static_cast<W>(1 / std::sqrt(correction(k.beta2, k.step)))),
        epsilon(static_cast<W>(k.epsilon)),
        scale(static_cast<W>(k.gradient_scale)) {}

  static double correction(double beta, std::int64_t step) {
    return 1 - std::pow(beta, static_cast<double>(step));
  }

  /// `copy` may be absent. Short runs spread what is fetched ahead.
  void update(W* x, W* gradient, W* m, W* v, BFloat16* copy,
              std::int64_t count) const {
    constexpr std::int64_t kShort = 64;
    for (std::int64_t i = 0; i < count; i += kShort) {
      const std::int64_t length = std::min(kShort, count - i);
      for (const W* from : {x, gradient, m, v}) fetch_ahead(from + i, kShort);
      if (length == kShort) {
        update_run(x + i, gradient + i, m + i, v + i, kShort);
      } else {
        update_run(x + i, gradient + i, m + i, v + i, length);
      }
      if (copy != nullptr) convert(x + i, copy + i, length);
    }
  }

  void update_run(W* __restrict x, W* __restrict gradient, W* __restrict m,
                  W* __restrict v, std::int64_t count) const {
    for (std::int64_t i = 0; i < count; ++i) {
      const W g = gradient[i] * scale;
      m[i] = beta1 * m[i] + rest1 * g;
      v[i] = beta2 * v[i] + rest2 * g * g;
      x[i] = x[i] * keep - rate * m[i] / (std::sqrt(v[i]) * root + epsilon);
      gradient[i] = 0;
    }
  }

  W beta1, beta2, rest1, rest2, keep, rate, root, epsilon, scale;
};

}  // namespace

void CpuKernels::run(const AdamW& k) {
  visit_wide(k.x.dtype(), [&]<class W>(W) {
    const Step<W> step(k);
    W* x = k.x.as<W>();
    W* gradient = k.gradient.as<W>();
    W* m = k.m.as<W>();
    W* v = k.v.as<W>();
    BFloat16* copy = k.copy.defined() ? k.copy.as<BFloat16>() : nullptr;
    for_column_blocks(pool_, k.x.size(0), kPieceElements,
                      [&](std::int64_t begin, std::int64_t count) {
                        step.update(
                            x + begin, gradient + begin, m + begin, v + begin,
                            copy != nullptr ? copy + begin : nullptr, count);
                      });
  });
}

}  // namespace catena::cpu
