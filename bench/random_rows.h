#pragma once

#include "training/step.h"

namespace catena::bench {

/// A batch of full rows of random tokens, one document each.
[[nodiscard]] data::Batch random_rows(const Config& config,
                                      std::uint64_t number);

}  // namespace catena::bench
