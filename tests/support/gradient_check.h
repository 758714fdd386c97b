#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "runtime/base/random.h"

namespace catena::testing {

/// A tensor that a loss depends on, as a flat vector, and its hand-written
/// gradient.
struct Differentiated {
  std::string name;
  std::vector<double> value, gradient;
  std::function<void(const std::vector<double>&)> write;
};

/// Fourth-order central difference of `loss` along `direction`. What is left
/// of the truncation error is of the order of step^4, below 1e-9 here.
inline double difference(const Differentiated& x,
                         const std::vector<double>& direction,
                         const std::function<double()>& loss,
                         double step = 1e-3) {
  const auto at = [&](double distance) {
    std::vector<double> moved = x.value;
    for (std::size_t i = 0; i < moved.size(); ++i) {
      moved[i] += distance * direction[i];
    }
    x.write(moved);
    return loss();
  };
  const double near = at(step) - at(-step);
  const double far = at(2 * step) - at(-2 * step);
  x.write(x.value);
  return (8 * near - far) / (12 * step);
}

/// Whether this was built with sanitizers: CMake's CATENA_SANITIZE.
inline constexpr bool kSanitized = CATENA_SANITIZED;

/// Compares x.gradient with differences of `loss` in one random direction,
/// which all elements have a part in, and at `coordinates` single places: not
/// so under sanitizers, where a loss takes twenty times as long and places are
/// the same code once more. Errors are relative to the length of the gradient
/// (times that of the direction, 1).
inline void check_gradient(const Differentiated& x,
                           const std::function<double()>& loss,
                           int coordinates = 3, double tolerance = 1e-7) {
  ASSERT_EQ(x.value.size(), x.gradient.size()) << x.name;
  if (x.value.empty()) return;
  const Random random(17, x.value.size());
  double length = 0;
  for (const double g : x.gradient) length += g * g;
  const double limit = tolerance * (std::sqrt(length) + 1e-3);

  std::vector<double> direction(x.value.size());
  double norm = 0;
  for (std::size_t i = 0; i < direction.size(); ++i) {
    direction[i] = random.normal(i);
    norm += direction[i] * direction[i];
  }
  double expected = 0;
  for (std::size_t i = 0; i < direction.size(); ++i) {
    direction[i] /= std::sqrt(norm);
    expected += direction[i] * x.gradient[i];
  }
  EXPECT_NEAR(difference(x, direction, loss), expected, limit)
      << x.name << ", random direction";

  if (kSanitized) return;
  for (int c = 0; c < coordinates; ++c) {
    const auto place = static_cast<std::size_t>(
        random.uniform(1'000'000 + static_cast<std::uint64_t>(c)) *
        static_cast<double>(x.value.size()));
    std::vector<double> axis(x.value.size(), 0.0);
    axis[place] = 1;
    EXPECT_NEAR(difference(x, axis, loss), x.gradient[place], limit)
        << x.name << "[" << place << "]";
  }
}

}  // namespace catena::testing
