#include <algorithm>
#include <cstdio>
#include <memory>

#include "launcher/contract.h"
#include "runtime/base/log.h"
#include "training/commands/commands.h"
#include "training/forecast.h"
#include "training/plan.h"
#include "training/sources.h"

namespace catena {
namespace {

struct Options {
  std::string config;
  std::vector<std::string> assignments;
  bool json = false;
  std::vector<int> ranks{1};
  std::string cluster, scaling = "strong";
  std::string routing = "balanced", placement;
};

int plan_on_cluster(const Options& options, const Config& config,
                    Precision precision) {
  const bool weak = options.scaling == "weak";
  if (weak && options.routing != "balanced" && options.routing != "worst") {
    fail(ErrorKind::kUsage,
         "--routing {}: its steps have the tokens they have; leave out "
         "--scaling weak",
         options.routing);
  }
  const Cluster cluster = load_cluster(options.cluster);
  const auto forecasts = forecast_scaling(
      config, precision, options.ranks,
      weak ? Scaling::kWeak : Scaling::kStrong, cluster, options.routing);
  const std::string text = options.json ? forecast_json(forecasts, cluster)
                                        : forecast_text(forecasts, cluster);
  std::fputs(text.c_str(), stdout);
  return kExitSuccess;
}

int plan(const Options& options) {
  Config config;
  config::Schema schema;
  describe(schema, config);
  std::vector<std::string> assignments = options.assignments;
  if (!options.placement.empty()) {
    assignments.push_back("parallel.placement_file=" + options.placement);
  }
  load(schema, config, options.config, assignments);
  if (options.routing != "balanced" &&
      std::count(options.ranks.begin(), options.ranks.end(), 1) > 0) {
    fail(ErrorKind::kUsage,
         "--routing {}: one rank exchanges nothing; say how many with --ranks",
         options.routing);
  }
  const auto backend = make_cpu_backend(1);
  const Precision precision =
      resolve_precision(config.train.precision, *backend);
  if (!options.cluster.empty()) {
    const bool automatic = config.train.precision == "auto";
    return plan_on_cluster(options, config,
                           automatic ? Precision{DType::kBFloat16} : precision);
  }
  const int ranks = options.ranks.front();
  if (options.ranks.size() > 1) {
    fail(ErrorKind::kUsage,
         "--ranks {},...: several numbers are compared on a cluster alone; add "
         "--cluster FILE",
         ranks);
  }
  const Plan made = make_plan(config, precision, ranks, options.routing);
  const std::string text =
      options.json ? plan_json(made, config) : plan_text(made, config);
  std::fputs(text.c_str(), stdout);
  const std::string why =
      why_too_large(made.needs, config, made.sharers(), made.memory_bytes);
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
                   "What each of so many ranks takes, and what it sends; with "
                   "--cluster several numbers, such as 8,64,512")
      ->delimiter(',')
      ->check(CLI::Range(1, 65536));
  command
      ->add_option("--cluster", options->cluster,
                   "TOML file of machines, such as "
                   "configs/clusters/h200x8.toml: what a step takes there")
      ->check(CLI::ExistingFile);
  command
      ->add_option("--scaling", options->scaling,
                   "With --cluster: strong, the step's tokens are the "
                   "configuration's; weak, they are those of each rank")
      ->check(CLI::IsMember({"strong", "weak"}));
  command->add_option(
      "--routing", options->routing,
      "balanced; worst: all tokens go where they load one rank most; or a file "
      "of catena train --record-routing: what its steps would have sent, and, "
      "with --cluster, how long they would have taken");
  command->add_option("--placement", options->placement,
                      "The same as --set parallel.placement_file=FILE");
  command->add_flag("--json", options->json, "One JSON object");
  command->footer(
      "Parameters, FLOPs and memory come from running the model on shapes\n"
      "alone; the step's time from a table that every run of ten steps leaves\n"
      "in data.cache.\n"
      "Examples:\n"
      "  catena plan configs/quickstart.toml\n"
      "  catena plan configs/paper/coe-2-4-64.toml --json\n"
      "  catena plan configs/paper/coe-2-4-64.toml --ranks 8\n"
      "  catena plan configs/paper/coe-2-4-64.toml --ranks 8,64,512 \\\n"
      "    --cluster configs/clusters/h200x8.toml --set parallel.expert=8\n"
      "  catena plan configs/quickstart.toml --ranks 4 --routing routes.bin\n"
      "  catena plan configs/quickstart.toml --set model.chain.iterations=4");
  command->callback(
      [options, &action] { action = [options] { return plan(*options); }; });
}

}  // namespace catena
