// catena-bench-step CONFIG [--set KEY=VALUE]... [--steps N] [--warmup N]
//   [--replay-routing FILE]
// Times training steps on full rows of random tokens and prints one JSON line:
// speed, its spread, where the time went, and what the machine's instructions
// gave just before and just after.

#include "training/step.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "bench/peak.h"
#include "bench/program.h"
#include "bench/random_rows.h"
#include "bench/timing.h"
#include "runtime/base/machine.h"
#include "training/kernel_table.h"
#include "training/plan.h"
#include "training/sources.h"

namespace catena::bench {
namespace {

using Json = nlohmann::ordered_json;

struct Options {
  std::string config;
  std::vector<std::string> assignments;
  int steps = 6, warmup = 2;
  std::string replay_routing;
};

// What the steps after the warm-up took.
struct Times {
  std::vector<double> seconds;
  double sum = 0, tokens = 0;
  std::int64_t allocations = 0;
  double loss = 0;
};

Times time_steps(Backend& backend, Step& step, const Config& config,
                 const Options& options) {
  Times times;
  StepReport report;
  RandomRows rows(config, options.replay_routing);
  if (rows.replays()) step.set_observer(&rows);
  for (int number = 1; number <= options.warmup + options.steps; ++number) {
    const data::Batch batch = rows.next(number);
    if (number == options.warmup + 1) {
      backend.kernels().reset_counts();
      times.allocations = backend.memory().allocations;
    }
    const double seconds = seconds_of([&] {
      step.compute(batch, number, report);
      step.apply(report);
    });
    if (number <= options.warmup) continue;
    times.seconds.push_back(seconds);
    times.sum += seconds;
    times.tokens += static_cast<double>(batch.tokens.size());
  }
  step.set_observer(nullptr);
  times.allocations = backend.memory().allocations - times.allocations;
  times.loss = report.loss;
  return times;
}

struct Peaks {
  Rate single, half;
};

Peaks peaks(const Config& config) {
  cpu::ThreadPool pool(static_cast<int>(config.train.threads));
  return {peak_flops(pool, DType::kFloat32),
          peak_flops(pool, DType::kBFloat16)};
}

Json peaks_json(const Peaks& before, const Peaks& after) {
  const auto pair = [](double first, double second) {
    return Json{first / 1e9, second / 1e9};
  };
  return {{"float32", pair(before.single.median, after.single.median)},
          {"float32_best", pair(before.single.best, after.single.best)},
          {"bfloat16", pair(before.half.median, after.half.median)},
          {"bfloat16_best", pair(before.half.best, after.half.best)}};
}

Json kernels_json(Backend& backend, const Times& times) {
  Json kernels;
  for (const KernelCount& count : backend.kernels()) {
    const double bytes = count.cost.read_bytes + count.cost.write_bytes;
    kernels[std::string(count.name)] = {
        {"share", count.seconds / times.sum},
        {"seconds_a_step",
         count.seconds / static_cast<double>(times.seconds.size())},
        {"gflops_per_second", count.cost.flops / count.seconds / 1e9},
        {"gigabytes_per_second", bytes / count.seconds / 1e9}};
  }
  return kernels;
}

double share_outside(Backend& backend, const Times& times) {
  double inside = 0;
  for (const KernelCount& count : backend.kernels()) inside += count.seconds;
  return 1 - inside / times.sum;
}

Json measure(const Config& config, const Options& options) {
  const auto backend = make_cpu_backend(static_cast<int>(config.train.threads));
  const Precision precision =
      resolve_precision(config.train.precision, *backend);
  const Estimate needs = estimate(config, precision);
  Model model(*backend, config.model, precision);
  model.parameters().initialize(0);
  Optimizer optimizer(model.parameters(), config.optimizer);
  Step step(model, optimizer, config);
  step.reserve(needs.chunks);
  const Peaks before = peaks(config);
  const Times times = time_steps(*backend, step, config, options);
  const Peaks after = peaks(config);
  // Before the probe below, whose product is counted too.
  const Json kernels = kernels_json(*backend, times);
  const double outside = share_outside(*backend, times);
  const auto [least, most] =
      std::minmax_element(times.seconds.begin(), times.seconds.end());
  const double middle = median(times.seconds);
  const double tokens = times.tokens / options.steps;
  Json result{
      {"framework", "catena"},
      {"model", model_name(config.model)},
      {"parameters", needs.parameters},
      {"dtype", name(precision.compute)},
      {"threads", available_cores()},
      {"tokens_per_step", tokens},
      {"tokens_at_once", config.train.micro_batch_tokens},
      {"step_seconds_median", middle},
      {"step_seconds_min", *least},
      {"step_seconds_max", *most},
      {"tokens_per_second", tokens / middle},
      {"gflops_per_second", needs.flops_per_token * tokens / middle / 1e9},
      {"mflop_per_token", needs.flops_per_token / 1e6},
      {"peak_gflops", peaks_json(before, after)},
      {"probe_gflops_per_second",
       probe_peak_flops(*backend, precision.compute) / 1e9},
      {"peak_resident_mib", peak_resident_bytes() >> 20},
      {"allocations", times.allocations},
      {"loss", times.loss},
      {"outside_of_kernels", outside},
      {"kernels", kernels}};
  if (config.model.router.force_balanced) result["forced_balanced"] = true;
  if (!options.replay_routing.empty()) {
    result["routes_replayed"] = options.replay_routing;
  }
  return result;
}

}  // namespace

int run(int argc, char** argv) {
  CLI::App app("Times training steps on random tokens.", "catena-bench-step");
  Options options;
  app.add_option("config", options.config)->required();
  app.add_option("--set", options.assignments, "KEY=VALUE; repeatable");
  app.add_option("--steps", options.steps)->check(CLI::PositiveNumber);
  app.add_option("--warmup", options.warmup)->check(CLI::NonNegativeNumber);
  app.add_option("--replay-routing", options.replay_routing,
                 "Experts as a file of catena train --record-routing says");
  CLI11_PARSE(app, argc, argv);
  Config config;
  config::Schema schema;
  describe(schema, config);
  load(schema, config, options.config, options.assignments);
  std::printf("%s\n", measure(config, options).dump().c_str());
  return 0;
}

}  // namespace catena::bench
