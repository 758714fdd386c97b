#include "layers/rope_table.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "layers/parameter.h"

namespace catena {
namespace {

double yarn_mscale(double factor, double mscale) {
  return factor <= 1 ? 1 : 0.1 * mscale * std::log(factor) + 1;
}

/// The (fractional) pair that turns `turns` times in original_positions.
double pair_with_turns(const RopeConfig& rope, std::int64_t size,
                       double turns) {
  return static_cast<double>(size) *
         std::log(static_cast<double>(rope.original_positions) /
                  (turns * 2 * std::numbers::pi)) /
         (2 * std::log(rope.theta));
}

}  // namespace

std::vector<double> rope_frequencies(const RopeConfig& rope,
                                     std::int64_t size) {
  const std::int64_t pairs = size / 2;
  std::vector<double> frequency(static_cast<std::size_t>(pairs));
  for (std::int64_t i = 0; i < pairs; ++i) {
    frequency[static_cast<std::size_t>(i)] = std::pow(
        rope.theta, -2.0 * static_cast<double>(i) / static_cast<double>(size));
  }
  if (rope.scaling == "linear") {
    for (double& f : frequency) f /= rope.factor;
  } else if (rope.scaling == "yarn") {
    double low =
        std::max(std::floor(pair_with_turns(rope, size, rope.beta_fast)), 0.0);
    double high =
        std::min(std::ceil(pair_with_turns(rope, size, rope.beta_slow)),
                 static_cast<double>(size - 1));
    if (low == high) high += 0.001;
    for (std::size_t i = 0; i < frequency.size(); ++i) {
      const double ramp =
          std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
      frequency[i] =
          frequency[i] / rope.factor * ramp + frequency[i] * (1 - ramp);
    }
  }
  return frequency;
}

double rope_magnitude(const RopeConfig& rope) {
  if (rope.scaling != "yarn") return 1;
  return yarn_mscale(rope.factor, rope.mscale) /
         yarn_mscale(rope.factor, rope.mscale_all_dim);
}

double rope_score_factor(const RopeConfig& rope) {
  if (rope.scaling != "yarn" || rope.mscale_all_dim == 0) return 1;
  const double mscale = yarn_mscale(rope.factor, rope.mscale_all_dim);
  return mscale * mscale;
}

RopeTable::RopeTable(Backend& backend, DType dtype, const RopeConfig& rope,
                     std::int64_t size, std::int64_t positions)
    : cosine(backend, dtype, {positions, size / 2}),
      sine(backend, dtype, {positions, size / 2}) {
  const std::vector<double> frequency = rope_frequencies(rope, size);
  const double magnitude = rope_magnitude(rope);
  std::vector<double> c, s;
  for (std::int64_t position = 0; position < positions; ++position) {
    for (const double f : frequency) {
      const double angle = static_cast<double>(position) * f;
      c.push_back(magnitude * std::cos(angle));
      s.push_back(magnitude * std::sin(angle));
    }
  }
  write_values(backend, cosine.view(), c);
  write_values(backend, sine.view(), s);
}

}  // namespace catena
