#pragma once

#include <cstdint>
#include <filesystem>

namespace catena::launcher {

/// Of a run's config.toml; 0 where it cannot be read.
struct RunSettings {
  std::int64_t steps = 0;             ///< train.steps
  std::int64_t checkpoint_every = 0;  ///< steps; 0: at the end alone
};
[[nodiscard]] RunSettings settings_of(const std::filesystem::path& config);

}  // namespace catena::launcher
