#pragma once

#include <CLI/CLI.hpp>
#include <functional>

namespace catena {

/// What a command line chose to do; returns the exit code. Set by the
/// sub-command that was named, run by main after parsing.
using Action = std::function<int()>;

void add_begin_command(CLI::App& app, Action& action);
void add_train_command(CLI::App& app, Action& action);
void add_plan_command(CLI::App& app, Action& action);
void add_verify_command(CLI::App& app, Action& action);
void add_evaluate_command(CLI::App& app, Action& action);
void add_doctor_command(CLI::App& app, Action& action);
void add_generate_command(CLI::App& app, Action& action);
void add_config_commands(CLI::App& app, Action& action);

}  // namespace catena
