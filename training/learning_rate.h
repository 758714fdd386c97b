#pragma once

#include "training/config.h"

namespace catena {

/// The learning rate of `step`, counted from 1, in a run of `steps`:
/// peak * step / warmup_steps while warming up, then by the schedule.
[[nodiscard]] double learning_rate(const LearningRateConfig& config,
                                   std::int64_t step, std::int64_t steps);

}  // namespace catena
