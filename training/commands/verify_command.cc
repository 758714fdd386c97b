#include <cstdio>
#include <memory>

#include "launcher/contract.h"
#include "runtime/base/log.h"
#include "training/commands/commands.h"
#include "training/sources.h"
#include "training/verify.h"

namespace catena {
namespace {

struct Options {
  std::string config, layouts = "1x1,1x2,2x1,2x2";
  std::vector<std::string> assignments;
  std::int64_t steps = 3;
  std::string record_routing, replay_routing;
};

std::vector<Layout> layouts_of(const Options& options, const Config& config) {
  std::vector<Layout> layouts;
  std::string rest = options.layouts;
  while (!rest.empty()) {
    const auto comma = rest.find(',');
    layouts.push_back(parse_layout(rest.substr(0, comma)));
    layouts.back().chunks = config.parallel.chunks;
    rest = comma == std::string::npos ? "" : rest.substr(comma + 1);
    // Refused before anything runs.
    static_cast<void>(config.placements(config.mesh(
        layouts.back().data * layouts.back().expert, layouts.back().expert)));
  }
  if (layouts.size() < 2) {
    fail(ErrorKind::kUsage,
         "--layouts {}: give two or more; all are compared with the first",
         options.layouts);
  }
  return layouts;
}

std::vector<data::Batch> batches_of(const Config& config, std::int64_t steps) {
  const data::Tokenizer tokenizer = load_tokenizer(config);
  const data::Dataset dataset =
      open_data(config, config.data.train, "data.train");
  data::Sampler sampler(dataset, sampler_options(config, tokenizer));
  std::vector<data::Batch> batches(static_cast<std::size_t>(steps));
  for (data::Batch& batch : batches) {
    sampler.next(config.rows_per_step(), batch);
  }
  return batches;
}

void show(const VerifyRow& row) {
  const Deviation& d = row.found;
  const char* verdict = row.null ? "null" : row.passed() ? "ok" : "FAILED";
  std::printf("%-7s %-25s %-6s %9.1e %9.1e %9.1e %9.1e %7lld  %.1e\n",
              row.layout.c_str(), row.mode.c_str(), verdict, d.loss, d.norm,
              d.gradient, d.weights, static_cast<long long>(d.flips.count),
              d.flips.largest_margin);
  if (!row.null && !row.passed()) {
    std::printf(
        "        allowed: loss %.0e, norm %.0e, gradient %.0e, weights "
        "%.0e; worst gradient %s, worst weights %s\n",
        row.allowed.loss, row.allowed.norm, row.allowed.gradient,
        row.allowed.weights, d.worst_gradient.c_str(), d.worst_weights.c_str());
  }
  std::fflush(stdout);
}

int verify(const Options& options) {
  Config config;
  config::Schema schema;
  describe(schema, config);
  load(schema, config, options.config, options.assignments);
  const std::vector<Layout> layouts = layouts_of(options, config);
  const auto batches = batches_of(config, options.steps);
  VerifyRoutes routes;
  if (!options.record_routing.empty()) routes.record = options.record_routing;
  if (!options.replay_routing.empty()) {
    routes.replay = options.replay_routing;
    std::printf("ROUTES REPLAYED: those of %s\n\n",
                options.replay_routing.c_str());
  }
  if (config.model.router.force_balanced) {
    std::printf("FORCED BALANCED: experts are dealt out, not chosen\n\n");
  }
  std::printf(
      "%lld steps; every layout (data x expert) beside %s. Relative "
      "deviations, the largest of all steps and tensors;\n"
      "null: %s with its sums in another order. Flips: routings that chose "
      "other experts, and the largest margin they had.\n\n"
      "%-7s %-25s %-6s %9s %9s %9s %9s %7s  %s\n",
      static_cast<long long>(options.steps), layouts[0].name().c_str(),
      layouts[0].name().c_str(), "layout", "type", "", "loss", "norm",
      "gradient", "weights", "flips", "margin");
  const bool passed = verify_layouts(config, layouts, batches, routes, show);
  if (passed) return kExitSuccess;
  log::error("layouts differ by more than rounding; please report this");
  return kExitInternal;
}

}  // namespace

void add_verify_command(CLI::App& app, Action& action) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand(
      "verify", "Show that no layout of ranks changes the answer");
  command->add_option("config", options->config, "TOML file")->required();
  command->add_option("--layouts", options->layouts,
                      "data x expert ranks, such as 1x1,2x2; the first is "
                      "what the others are compared with");
  command->add_option("--steps", options->steps, "Optimizer steps of each")
      ->check(CLI::Range(1, 1000));
  command->add_option("--set", options->assignments,
                      "KEY=VALUE, over what the file says; repeatable");
  CLI::Option* record = command->add_option(
      "--record-routing", options->record_routing,
      "Write the experts that the first layout chose in float32, for "
      "--replay-routing of verify and train, and plan --routing");
  command
      ->add_option("--replay-routing", options->replay_routing,
                   "All layouts choose the experts that this file names")
      ->excludes(record);
  command->footer(
      "Ranks are threads of this process. Trains a few steps from the same\n"
      "weights and rows under each layout; compares losses, gradient norms,\n"
      "every gradient and every weight: in float64, in float32 with the "
      "routes\n"
      "of the first layout, and in float32 with their own.\n"
      "Examples:\n"
      "  catena verify configs/quickstart.toml --set train.batch_tokens=1024\n"
      "  catena verify configs/quickstart.toml --layouts 1x1,1x4,4x1 --steps "
      "5");
  command->callback(
      [options, &action] { action = [options] { return verify(*options); }; });
}

}  // namespace catena
