#pragma once

#include <cstdint>
#include <filesystem>

namespace catena::launcher {

/// train.steps of a run's config.toml; 0 where it cannot be read.
[[nodiscard]] std::int64_t steps_of(const std::filesystem::path& config);

}  // namespace catena::launcher
