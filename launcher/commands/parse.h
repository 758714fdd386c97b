#pragma once

#include <CLI/CLI.hpp>
#include <optional>
#include <string>
#include <vector>

namespace catena::launcher {

/// Has `app`, named "catena COMMAND", read the arguments. Returns the exit code
/// to leave with, having said why or printed the help; none: go on.
[[nodiscard]] std::optional<int> parse_command(
    CLI::App& app, const std::vector<std::string>& arguments);

/// Adds the optional argument RUN.
void add_run(CLI::App& app, std::string& run);

}  // namespace catena::launcher
