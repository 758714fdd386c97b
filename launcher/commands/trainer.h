#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <string_view>

namespace catena::launcher {

/// A command that the trainer carries out.
struct TrainerCommand {
  std::string_view name, summary;
};

/// In the order in which `catena --help` lists them.
[[nodiscard]] std::span<const TrainerCommand> trainer_commands();
[[nodiscard]] bool is_trainer_command(std::string_view name);

/// The first program of that name on PATH; "": there is none.
[[nodiscard]] std::filesystem::path on_search_path(std::string_view program);

/// Where catena-train is: what CATENA_TRAIN names or, without it, beside this
/// program, else on PATH.
/// Throws: Error(kUnsupported) saying where it was looked for.
[[nodiscard]] std::filesystem::path find_trainer();

/// Replaces this process by `catena-train ARGUMENTS...`, so that signals,
/// standard streams and the exit code are the trainer's own. `arguments`, the
/// command's name first, pass byte for byte.
/// Throws: Error(kUnsupported) if it is not there or cannot be run.
[[noreturn]] void run_trainer(std::span<const std::string> arguments);

}  // namespace catena::launcher
