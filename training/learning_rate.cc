#include "training/learning_rate.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace catena {

double learning_rate(const LearningRateConfig& config, std::int64_t step,
                     std::int64_t steps) {
  if (step <= config.warmup_steps) {
    return config.peak * static_cast<double>(step) /
           static_cast<double>(config.warmup_steps);
  }
  // Done: 0 at the end of the warm-up, 1 at the last step.
  const auto rest = static_cast<double>(
      std::max<std::int64_t>(1, steps - config.warmup_steps));
  const double done =
      std::min(1.0, static_cast<double>(step - config.warmup_steps) / rest);
  const double fall = 1 - config.final_ratio;
  if (config.schedule == "linear") return config.peak * (1 - fall * done);
  if (config.schedule == "cosine") {
    return config.peak * (config.final_ratio +
                          fall * (1 + std::cos(std::numbers::pi * done)) / 2);
  }
  if (config.schedule == "wsd" && config.decay_fraction > 0) {
    const auto total = static_cast<double>(steps);
    const double begin = total * (1 - config.decay_fraction);
    const double part =
        (static_cast<double>(step) - begin) / (total * config.decay_fraction);
    return config.peak * (1 - fall * std::clamp(part, 0.0, 1.0));
  }
  return config.peak;
}

}  // namespace catena
