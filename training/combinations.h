#pragma once

#include <string>

#include "layers/model_config.h"

namespace catena {

/// In how many ways a chain layer can pass a token, exactly, in decimal: sets
/// of top_k experts (of at most top_groups groups), to the power of the
/// iterations. C(63, 4)^2 for CoE-2(4/64).
/// Source: arXiv 2506.18945, section 4 ("expert combinations").
[[nodiscard]] std::string expert_combinations(const ModelConfig& config);

}  // namespace catena
