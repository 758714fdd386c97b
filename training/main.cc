// catena-train: what all commands of `catena` run.

#include <cstdio>
#include <new>

#include "launcher/contract.h"
#include "runtime/base/error.h"
#include "runtime/base/log.h"
#include "training/commands/commands.h"
#include "training/commands/data_command.h"

namespace catena {
namespace {

ExitCode exit_code(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::kUsage:
      return kExitUsage;
    case ErrorKind::kConfig:
      return kExitConfig;
    case ErrorKind::kUnsupported:
      return kExitConfig;
    case ErrorKind::kData:
      return kExitData;
    case ErrorKind::kDoesNotFit:
      return kExitDoesNotFit;
    case ErrorKind::kIo:
      return kExitStorage;
    case ErrorKind::kNonFinite:
      return kExitNonFinite;
    case ErrorKind::kInvalidArgument:
    case ErrorKind::kDevice:
    case ErrorKind::kCommunication:
    case ErrorKind::kTimeout:
    case ErrorKind::kInternal:
      return kExitInternal;
  }
  return kExitInternal;
}

int run(int argc, char** argv) {
  CLI::App app("Catena: trains Chain-of-Experts language models.", "catena");
  app.add_option_function<std::string>(
         "--color", [](const std::string& choice) { log::set_color(choice); },
         "auto, always or never: escape sequences on standard error")
      ->check(CLI::IsMember({"auto", "always", "never"}))
      ->trigger_on_parse();
  app.require_subcommand(1);
  app.fallthrough();
  Action action;
  add_train_command(app, action);
  add_plan_command(app, action);
  add_evaluate_command(app, action);
  add_generate_command(app, action);
  add_config_commands(app, action);
  add_data_commands(app);
  add_doctor_command(app, action);
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& success) {
    return app.exit(success);
  } catch (const CLI::ParseError& problem) {
    log::error("{}; see `catena {} --help`", problem.what(),
               argc > 1 && argv[1][0] != '-' ? argv[1] : "");
    return kExitUsage;
  }
  return action ? action() : kExitSuccess;
}

}  // namespace
}  // namespace catena

int main(int argc, char** argv) {
  try {
    return catena::run(argc, argv);
  } catch (const catena::Error& error) {
    catena::log::progress("");
    catena::log::error("{}", error.what());
    return catena::exit_code(error.kind());
  } catch (const std::bad_alloc&) {
    catena::log::progress("");
    catena::log::error(
        "out of memory: lower model.max_positions, train.micro_batch_tokens "
        "or the size of the model");
    return catena::kExitDoesNotFit;
  } catch (const std::exception& error) {
    catena::log::progress("");
    catena::log::error("internal: {}; please report this", error.what());
    return catena::kExitInternal;
  }
}
