#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace catena::launcher {

/// How the trainer ended, and what it wrote on standard output.
struct TrainerOutput {
  int code = 0;  ///< exit code, or 128 + the signal that ended it
  std::string text = {};
};

/// Runs the trainer to its end with `arguments` (its name first); what it
/// writes on standard error is seen.
/// Throws: Unsupported if it cannot be run.
[[nodiscard]] TrainerOutput trainer_output(
    const std::filesystem::path& program,
    const std::vector<std::string>& arguments);

}  // namespace catena::launcher
