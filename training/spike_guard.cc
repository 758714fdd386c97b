#include "training/spike_guard.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

namespace catena {
namespace {

constexpr std::size_t kFewest = 16;
constexpr double kToDeviation = 1.4826;
constexpr double kLeastSpread = 0.01;

/// Of an even number the mean of both in the middle. Leaves the values in
/// another order.
double median(std::vector<double>& values) {
  const auto middle =
      values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  if (values.size() % 2 == 1) return *middle;
  return std::midpoint(*std::max_element(values.begin(), middle), *middle);
}

void push(std::vector<double>& values, double value, std::int64_t most) {
  values.reserve(static_cast<std::size_t>(most) + 1);
  values.push_back(value);
  while (static_cast<std::int64_t>(values.size()) > most) {
    values.erase(values.begin());
  }
}

}  // namespace

SpikeGuard::SpikeGuard(const SpikeConfig& config) : config_(config) {
  scratch_.reserve(static_cast<std::size_t>(config.window));
}

std::string SpikeGuard::judge(double loss, double norm) {
  std::string problem = judge_one("loss", loss, state_.losses);
  if (!problem.empty()) return problem;
  return judge_one("gradient norm", norm, state_.norms);
}

std::string SpikeGuard::judge_one(const char* what, double x,
                                  const std::vector<double>& before) {
  if (!std::isfinite(x)) return fmt::format("{} {} is not finite", what, x);
  if (before.size() < kFewest) return "";
  scratch_.assign(before.begin(), before.end());
  const double center = median(scratch_);
  for (double& value : scratch_) value = std::abs(value - center);
  const double spread = std::max(kToDeviation * median(scratch_),
                                 kLeastSpread * std::abs(center));
  const double deviations = (x - center) / spread;
  if (!(deviations > config_.deviations)) return "";
  return fmt::format("{} {:.4g} is {:.1f} deviations above {:.4g}", what, x,
                     deviations, center);
}

void SpikeGuard::accept(double loss, double norm) {
  push(state_.losses, loss, config_.window);
  push(state_.norms, norm, config_.window);
}

}  // namespace catena
