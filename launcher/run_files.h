#pragma once

#include <cstdint>
#include <filesystem>

namespace catena::launcher {

/// RUN/logs/rank-K.log: all that rank K writes, generation after generation.
[[nodiscard]] std::filesystem::path rank_log(const std::filesystem::path& run,
                                             int rank);

/// Step of the newest folder RUN/checkpoints/step-N with a manifest; 0: none.
[[nodiscard]] std::int64_t newest_checkpoint_step(
    const std::filesystem::path& run);

}  // namespace catena::launcher
