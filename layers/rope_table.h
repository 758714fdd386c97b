#pragma once

#include <vector>

#include "layers/model_config.h"
#include "runtime/backend.h"

namespace catena {

/// Angles per token for each of size / 2 channel pairs: theta^(-2i / size),
/// divided by `factor` (linear), or blended between both by how often the
/// pair turns within original_positions (yarn).
/// Source: arXiv 2104.09864; yarn: arXiv 2309.00071, section 3.2.
[[nodiscard]] std::vector<double> rope_frequencies(const RopeConfig& rope,
                                                   std::int64_t size);

/// What yarn multiplies the embedding by (1 without yarn).
[[nodiscard]] double rope_magnitude(const RopeConfig& rope);

/// What yarn multiplies attention scores by: mscale_all_dim's square (1
/// without it).
[[nodiscard]] double rope_score_factor(const RopeConfig& rope);

/// Cosines and sines of every position, times rope_magnitude.
struct RopeTable {
  RopeTable(Backend& backend, DType dtype, const RopeConfig& rope,
            std::int64_t size, std::int64_t positions);
  Tensor cosine, sine;  ///< [positions, size / 2]
};

}  // namespace catena
