#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>

#include "launcher/contract.h"
#include "training/commands/commands.h"
#include "training/plan.h"
#include "training/run_folder.h"
#include "training/sources.h"
#include "training/step_trace.h"

namespace catena {
namespace {

struct Options {
  std::string config;
  std::vector<std::string> assignments;
  int ranks = 1;
  bool resume = false, dry_run = false;
  std::string trace;
};

RunFolder find_run(const Options& options, const Config& config) {
  const std::filesystem::path wanted = config.run.folder;
  if (options.resume) {
    if (const auto latest = RunFolder::latest(wanted)) return *latest;
  }
  return options.dry_run ? RunFolder{wanted} : RunFolder::create(wanted);
}

/// What the start of training would say of memory, without starting it.
std::string why_it_does_not_fit(const Config& config, int ranks) {
  const auto backend = make_cpu_backend(1);
  const Precision precision =
      resolve_precision(config.train.precision, *backend);
  return why_too_large(make_plan(config, precision, ranks).needs, config,
                       ranks);
}

int begin(const Options& options) {
  Config config;
  config::Schema schema;
  describe(schema, config);
  load(schema, config, options.config, options.assignments);
  const std::string name =
      std::filesystem::path(options.config).stem().string();
  config.run.folder = RunFolder::resolve(config, name).string();
  static_cast<void>(config.placements(config.mesh(options.ranks)));
  if (!options.trace.empty()) {
    static_cast<void>(parse_trace(options.trace, config.train.steps));
  }
  const std::string does_not_fit =
      options.dry_run ? why_it_does_not_fit(config, options.ranks) : "";
  const nlohmann::json json = {
      {"run", std::filesystem::absolute(find_run(options, config).path)
                  .lexically_normal()
                  .string()},
      {"transport", config.parallel.transport},
      {"does_not_fit", does_not_fit}};
  std::puts(json.dump().c_str());
  return kExitSuccess;
}

}  // namespace

void add_begin_command(CLI::App& app, Action& action) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand(
      kBeginCommand, "For the launcher: check a configuration, make its run");
  command->group("");  // not listed
  command->add_option("config", options->config, "TOML file")->required();
  command->add_option("--set", options->assignments, "KEY=VALUE");
  command->add_option("--ranks", options->ranks, "How many there will be");
  command->add_flag("--resume", options->resume,
                    "Find the last run of this configuration");
  command->add_flag("--dry-run", options->dry_run, "Make no folder");
  command->add_option("--trace", options->trace, "As of train");
  command->callback(
      [options, &action] { action = [options] { return begin(*options); }; });
}

}  // namespace catena
