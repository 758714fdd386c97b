#include <memory>

#include "launcher/contract.h"
#include "runtime/base/files.h"
#include "runtime/base/log.h"
#include "training/commands/commands.h"
#include "training/trainer.h"

namespace catena {
namespace {

struct Options {
  std::string config;
  std::vector<std::string> assignments;
};

void print_next_commands(const RunFolder& run, const Options& options) {
  const std::string folder = run.path.string();
  log::info("");
  log::info("results in {}; next:", folder);
  log::info(
      "  build/catena generate {} --prompt \"Tom has 3 apples and buys "
      "4 more. How many does he have?\"",
      folder);
  log::info("  build/catena train {} --set train.steps=1000", options.config);
  log::info("  build/catena config explain model.chain");
}

int train(const Options& options) {
  Config config;
  config::Schema schema;
  describe(schema, config);
  load(schema, config, options.config, options.assignments);
  const RunFolder run = RunFolder::create(
      config, std::filesystem::path(options.config).stem().string());
  log::open_file(run.path / "log.txt");
  write_file_atomically(run.config(), schema.toml(false, true));
  Trainer trainer(config, run);
  const Trainer::Result result = trainer.run();
  if (result.stopped) {
    log::info("stopped on request; weights saved in {}", run.path.string());
    return kExitPreempted;
  }
  trainer.answer_prompts();
  print_next_commands(run, options);
  return kExitSuccess;
}

/// Every key and its default, for --help.
std::string list_keys() {
  Config config;
  config::Schema schema;
  describe(schema, config);
  std::string text = "Keys for the file and for --set, with defaults:\n";
  for (const config::Key& key : schema.keys()) {
    text += fmt::format("  {} = {}{}{}\n", key.path, key.default_value,
                        key.unit.empty() ? "" : "  # ", key.unit);
  }
  return text;
}

}  // namespace

void add_train_command(CLI::App& app, Action& action) {
  auto options = std::make_shared<Options>();
  CLI::App* command =
      app.add_subcommand("train", "Train on this machine, with one rank");
  command
      ->add_option("config", options->config,
                   "TOML file; `catena config markdown` lists every key")
      ->required();
  command->add_option("--set", options->assignments,
                      "KEY=VALUE, over what the file says; repeatable");
  command->footer(
      std::string("Examples:\n"
                  "  catena train configs/quickstart.toml\n"
                  "  catena train configs/quickstart.toml --set train.steps=50 "
                  "--set model.chain.iterations=3\n"
                  "Ctrl-C ends after the step under way and saves the weights "
                  "(exit code "
                  "75);\na second Ctrl-C ends at once.\n"
                  "What a key means: catena config explain KEY\n\n") +
      list_keys());
  command->callback(
      [options, &action] { action = [options] { return train(*options); }; });
}

}  // namespace catena
