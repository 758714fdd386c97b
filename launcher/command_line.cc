#include "launcher/command_line.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <array>
#include <cstdio>
#include <memory>

#include "launcher/commands/bound.h"
#include "launcher/commands/dashboard.h"
#include "launcher/commands/launch.h"
#include "launcher/commands/look.h"
#include "launcher/commands/trace.h"
#include "launcher/commands/train_dashboard.h"
#include "launcher/commands/trainer.h"
#include "launcher/contract.h"
#include "launcher/engines.h"
#include "launcher/remote_agent.h"
#include "runtime/base/error.h"
#include "runtime/base/nearest.h"

namespace catena::launcher {
namespace {

/// A command that this program carries out itself.
struct OwnCommand {
  const char *name, *summary;
  int (*run)(const std::vector<std::string>&);
};
constexpr std::array<OwnCommand, 7> kOwnCommands = {{
    {kLaunchName, kLaunchSummary, launch},
    {"status", "how a run stands, and each of its ranks", status},
    {"watch", "the same with the loss, drawn and renewed", watch},
    {"logs", "what the ranks of a run wrote", logs},
    {"dashboard", "show a run, under way or finished, in a browser", dashboard},
    {"stop", "have a run save and end", stop},
    {"trace", "make one file of the traces of all ranks", trace},
}};

constexpr const char* kExamples = R"(Examples:
  catena train configs/quickstart.toml
  catena train configs/quickstart.toml --set train.steps=200
  catena launch -n 4 configs/quickstart.toml
  catena generate RUN --prompt "What is 12 times 7?"
  catena config explain model.chain.iterations

"catena COMMAND --help" says more about a command.)";

std::unique_ptr<CLI::App> make_application() {
  auto application = std::make_unique<CLI::App>(
      "Catena trains Chain-of-Experts language models.", "catena");
  application->set_version_flag("--version", "catena " CATENA_VERSION,
                                "print the version and leave");
  application->get_help_ptr()->description("print this text and leave");
  application->get_formatter()->column_width(16);
  application->get_formatter()->label("SUBCOMMAND", "COMMAND");
  application->footer(kExamples);
  application->require_subcommand(1);
  for (const TrainerCommand& command : trainer_commands()) {
    application
        ->add_subcommand(std::string(command.name),
                         std::string(command.summary))
        ->group("Commands");
    if (command.name != "train") continue;
    for (const OwnCommand& own : kOwnCommands) {
      application->add_subcommand(own.name, own.summary)->group("Commands");
    }
  }
  return application;
}

void complain(const std::string& message) {
  fmt::print(stderr, "catena: {}\n", message);
}

int exit_code(ErrorKind kind) {
  if (kind == ErrorKind::kUsage) return kExitUsage;
  if (kind == ErrorKind::kData) return kExitData;
  if (kind == ErrorKind::kConfig) return kExitConfig;
  if (kind == ErrorKind::kIo) return kExitStorage;
  return kind == ErrorKind::kUnsupported ? kExitNotFound : kExitInternal;
}

int refuse(const CLI::App& application, const std::string& word) {
  std::vector<std::string> names = {"help"};
  for (const CLI::App* command : application.get_subcommands({})) {
    names.push_back(command->get_name());
  }
  const bool option = word.starts_with('-');
  if (option) names = {"--help", "--version"};
  const std::string near = nearest_name(word, names);
  complain(fmt::format("unknown {} {}; {}", option ? "option" : "command", word,
                       near.empty() ? "\"catena --help\" lists the commands"
                                    : fmt::format("did you mean {}?", near)));
  return kExitUsage;
}

// "help COMMAND" is "COMMAND --help".
std::vector<std::string> without_help(std::vector<std::string> arguments) {
  if (arguments.empty() || arguments.front() != "help") return arguments;
  if (arguments.size() == 1) return {"--help"};
  return {arguments[1], "--help"};
}

// Help and version, and what is no command.
int run_own(const std::vector<std::string>& arguments) {
  const auto application = make_application();
  if (arguments.empty()) {
    fmt::print(stderr, "{}", application->help());
    return kExitUsage;
  }
  try {
    // CLI11 takes the arguments last first.
    application->parse(
        std::vector<std::string>(arguments.rbegin(), arguments.rend()));
  } catch (const CLI::Success& asked) {
    return application->exit(asked);
  } catch (const CLI::ParseError&) {
    return refuse(*application, arguments.front());
  }
  return kExitSuccess;
}

}  // namespace

int run(const std::vector<std::string>& given) {
  const std::vector<std::string> arguments = without_help(given);
  const std::string command = arguments.empty() ? "" : arguments.front();
  try {
    for (const OwnCommand& own : kOwnCommands) {
      if (command == own.name) {
        return own.run({arguments.begin() + 1, arguments.end()});
      }
    }
    // Not listed: a launcher starts it, nobody else.
    if (command == kAgentCommand) return run_remote_agent();
    if (command == kBoundCommand) {
      run_bound({arguments.begin() + 1, arguments.end()});
    }
    if (command == kTrainCommand) {
      if (const auto place = dashboard_place(arguments)) serve_beside(*place);
    }
    if (is_trainer_command(command)) run_trainer(arguments);
  } catch (const Error& error) {
    complain(error.what());
    return exit_code(error.kind());
  } catch (const std::exception& error) {
    complain(error.what());
    return kExitInternal;
  }
  return run_own(arguments);
}

}  // namespace catena::launcher
