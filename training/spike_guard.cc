#include "training/spike_guard.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace catena {
namespace {

constexpr std::size_t kFewest = 16;
constexpr double kToDeviation = 1.4826;
constexpr double kLeastSpread = 0.01;

double median(std::vector<double> values) {
  const auto middle =
      values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

std::string judge_one(const char* what, double x,
                      const std::vector<double>& before, double limit) {
  if (!std::isfinite(x)) return fmt::format("{} {} is not finite", what, x);
  if (before.size() < kFewest) return "";
  const double center = median(before);
  std::vector<double> distances;
  distances.reserve(before.size());
  for (const double value : before) {
    distances.push_back(std::abs(value - center));
  }
  const double spread = std::max(kToDeviation * median(std::move(distances)),
                                 kLeastSpread * std::abs(center));
  const double deviations = (x - center) / spread;
  if (!(deviations > limit)) return "";
  return fmt::format("{} {:.4g} is {:.1f} deviations above {:.4g}", what, x,
                     deviations, center);
}

void push(std::vector<double>& values, double value, std::int64_t most) {
  values.reserve(static_cast<std::size_t>(most) + 1);
  values.push_back(value);
  while (static_cast<std::int64_t>(values.size()) > most) {
    values.erase(values.begin());
  }
}

}  // namespace

std::string SpikeGuard::judge(double loss, double norm) const {
  std::string problem =
      judge_one("loss", loss, state_.losses, config_.deviations);
  if (!problem.empty()) return problem;
  return judge_one("gradient norm", norm, state_.norms, config_.deviations);
}

void SpikeGuard::accept(double loss, double norm) {
  push(state_.losses, loss, config_.window);
  push(state_.norms, norm, config_.window);
}

}  // namespace catena
