#pragma once

#include <CLI/CLI.hpp>

namespace catena {

/// Adds the subcommand `data` with `prepare`, `tokenizer`, `encode` and
/// `inspect`. They run inside app.parse(): results go to standard output,
/// progress and warnings to standard error.
/// Throws, from app.parse(): catena::Error, for the program's main to turn
/// into one line and an exit code.
void add_data_commands(CLI::App& app);

}  // namespace catena
