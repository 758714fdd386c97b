// catena-train: what all commands of `catena` run.

#include <fmt/format.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <string>

#include "launcher/contract.h"
#include "parallel/tag.h"
#include "runtime/base/log.h"
#include "training/commands/commands.h"
#include "training/commands/data_command.h"
#include "training/control_line.h"
#include "training/failure.h"
#include "training/lease_watch.h"

namespace catena {
namespace {

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
  add_begin_command(app, action);
  add_train_command(app, action);
  add_plan_command(app, action);
  add_verify_command(app, action);
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

/// Whatever other threads are at: nothing that they may hold is waited for, nor
/// a disk that the log is on and that hangs, which SIGALRM ends after a second.
void end_at_once(const std::string& text) {
  const std::string line = fmt::format("error: {}\n", text);
  ::signal(SIGALRM, SIG_DFL);
  ::alarm(1);
  static_cast<void>(!::write(STDERR_FILENO, line.data(), line.size()));
  std::_Exit(kExitInternal);
}

}  // namespace
}  // namespace catena

int main(int argc, char** argv) {
  catena::control_line::open();
  catena::watch_lease(catena::end_at_once);
  try {
    return catena::run(argc, argv);
  } catch (...) {
    const catena::Failed failed = catena::explain(std::current_exception());
    if (catena::is_consequence(failed.text) || catena::is_missed(failed)) {
      std::string word = catena::kSaidLost;
      const std::string_view exchange = catena::exchange_in(failed.text);
      if (!exchange.empty()) word += fmt::format(" {}", exchange);
      catena::control_line::say(word.c_str());
    }
    catena::log::progress("");
    catena::log::error("{}", failed.text);
    return failed.code;
  }
}
