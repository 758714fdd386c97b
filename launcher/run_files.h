#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

namespace catena::launcher {

/// RUN/logs/rank-K.log: all that rank K writes, generation after generation.
[[nodiscard]] std::filesystem::path rank_log(const std::filesystem::path& run,
                                             int rank);

/// RUN/logs/mpirun.log: what mpirun itself writes, where it starts the ranks.
[[nodiscard]] std::filesystem::path mpirun_log(
    const std::filesystem::path& run);
/// Appends a line to a log that says that a generation begins there, and one
/// with `more`, unless that is empty. Returns the length of the file then.
std::int64_t begin_log(const std::filesystem::path& path, int generation,
                       const std::string& more = "");

/// Step of the newest folder RUN/checkpoints/step-N with a manifest; 0: none,
/// or none that can be read now.
[[nodiscard]] std::int64_t newest_checkpoint_step(
    const std::filesystem::path& run);

}  // namespace catena::launcher
