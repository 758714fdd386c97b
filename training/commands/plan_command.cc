#include <cstdio>
#include <memory>

#include "launcher/contract.h"
#include "runtime/base/log.h"
#include "training/commands/commands.h"
#include "training/plan.h"
#include "training/sources.h"

namespace catena {
namespace {

struct Options {
  std::string config;
  std::vector<std::string> assignments;
  bool json = false;
  int ranks = 1;
};

int plan(const Options& options) {
  Config config;
  config::Schema schema;
  describe(schema, config);
  load(schema, config, options.config, options.assignments);
  const auto backend = make_cpu_backend(1);
  const Plan made =
      make_plan(config, resolve_precision(config.train.precision, *backend),
                options.ranks);
  const std::string text =
      options.json ? plan_json(made, config) : plan_text(made, config);
  std::fputs(text.c_str(), stdout);
  const std::string why = why_too_large(made.needs, config, options.ranks);
  if (!options.json && !why.empty()) {
    log::warning("does not fit this machine: {}", why);
  }
  return kExitSuccess;
}

}  // namespace

void add_plan_command(CLI::App& app, Action& action) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand(
      "plan", "What a configuration will take; runs nothing");
  command->add_option("config", options->config, "TOML file")->required();
  command->add_option("--set", options->assignments,
                      "KEY=VALUE, over what the file says; repeatable");
  command
      ->add_option("--ranks", options->ranks,
                   "What each of so many ranks takes, and what it sends")
      ->check(CLI::Range(1, 65536));
  command->add_flag("--json", options->json, "One JSON object");
  command->footer(
      "Parameters, FLOPs and memory come from running the model on shapes\n"
      "alone; the step's time from a table that every run of ten steps leaves\n"
      "in data.cache.\n"
      "Examples:\n"
      "  catena plan configs/quickstart.toml\n"
      "  catena plan configs/paper/coe-2-4-64.toml --json\n"
      "  catena plan configs/paper/coe-2-4-64.toml --ranks 8\n"
      "  catena plan configs/quickstart.toml --set model.chain.iterations=4");
  command->callback(
      [options, &action] { action = [options] { return plan(*options); }; });
}

}  // namespace catena
