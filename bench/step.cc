// catena-bench-step CONFIG [--set KEY=VALUE]... [--steps N] [--warmup N]
// Times training steps on full rows of random tokens and prints one JSON line:
// speed, its spread, and where the time went.

#include "training/step.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "runtime/base/machine.h"
#include "runtime/base/random.h"
#include "training/kernel_table.h"
#include "training/plan.h"
#include "training/sources.h"

namespace catena {
namespace {

struct Options {
  std::string config;
  std::vector<std::string> assignments;
  int steps = 6, warmup = 2;
};

data::Batch random_rows(const Config& config, std::uint64_t number) {
  const Random random(7, number);
  data::Batch batch;
  batch.rows = config.rows_per_step();
  batch.sequence = config.data.sequence;
  const auto vocabulary = static_cast<std::uint32_t>(config.model.vocabulary);
  for (std::int64_t row = 0; row < batch.rows; ++row) {
    const std::int64_t begin = row * batch.sequence;
    batch.row_offsets.push_back(begin);
    for (std::int64_t i = 0; i < batch.sequence; ++i) {
      const auto word = random.words(static_cast<std::uint64_t>(begin + i))[0];
      batch.tokens.push_back(static_cast<std::int32_t>(word % vocabulary));
      batch.positions.push_back(static_cast<std::int32_t>(i));
      batch.first.push_back(static_cast<std::int32_t>(begin));
    }
  }
  batch.row_offsets.push_back(batch.rows * batch.sequence);
  batch.targets.assign(batch.tokens.begin() + 1, batch.tokens.end());
  batch.targets.push_back(-1);
  batch.trained_tokens = static_cast<std::int64_t>(batch.tokens.size()) - 1;
  return batch;
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

nlohmann::ordered_json measure(const Config& config, const Options& options) {
  using Clock = std::chrono::steady_clock;
  const auto backend = make_cpu_backend(static_cast<int>(config.train.threads));
  const Precision precision =
      resolve_precision(config.train.precision, *backend);
  const Estimate needs = estimate(config, precision);
  Model model(*backend, config.model, precision);
  model.parameters().initialize(0);
  Optimizer optimizer(model.parameters(), config.optimizer);
  Step step(model, optimizer, config);
  step.reserve(needs.chunks);
  StepReport report;
  std::vector<double> seconds;
  std::int64_t allocations = 0;
  for (int number = 1; number <= options.warmup + options.steps; ++number) {
    const data::Batch batch =
        random_rows(config, static_cast<std::uint64_t>(number));
    if (number == options.warmup + 1) {
      backend->kernels().reset_counts();
      allocations = backend->memory().allocations;
    }
    const auto begin = Clock::now();
    step.compute(batch, number, report);
    step.apply(report);
    if (number > options.warmup) {
      seconds.push_back(
          std::chrono::duration<double>(Clock::now() - begin).count());
    }
  }
  allocations = backend->memory().allocations - allocations;
  const double middle = median(seconds);
  const auto tokens = static_cast<double>(config.train.batch_tokens);
  double all = 0, inside = 0;
  for (const double s : seconds) all += s;
  nlohmann::ordered_json kernels;
  for (const KernelCount& count : backend->kernels()) {
    inside += count.seconds;
    kernels[std::string(count.name)] = {
        {"share", count.seconds / all},
        {"seconds_a_step", count.seconds / options.steps},
        {"gflops_per_second", count.cost.flops / count.seconds / 1e9},
        {"gigabytes_per_second",
         (count.cost.read_bytes + count.cost.write_bytes) / count.seconds /
             1e9}};
  }
  const double flops = needs.flops_per_token * tokens;
  return {
      {"framework", "catena"},
      {"model", model_name(config.model)},
      {"parameters", needs.parameters},
      {"dtype", name(precision.compute)},
      {"threads", available_cores()},
      {"tokens_per_step", config.train.batch_tokens},
      {"step_seconds_median", middle},
      {"step_seconds_min", *std::min_element(seconds.begin(), seconds.end())},
      {"step_seconds_max", *std::max_element(seconds.begin(), seconds.end())},
      {"tokens_per_second", tokens / middle},
      {"gflops_per_second", flops / middle / 1e9},
      {"mflop_per_token", needs.flops_per_token / 1e6},
      {"peak_gflops_per_second",
       probe_peak_flops(*backend, precision.compute) / 1e9},
      {"peak_resident_mib", peak_resident_bytes() >> 20},
      {"allocations", allocations},
      {"loss", report.loss},
      {"outside_of_kernels", 1 - inside / all},
      {"kernels", kernels}};
}

int run(int argc, char** argv) {
  CLI::App app("Times training steps on random tokens.", "catena-bench-step");
  Options options;
  app.add_option("config", options.config)->required();
  app.add_option("--set", options.assignments, "KEY=VALUE; repeatable");
  app.add_option("--steps", options.steps)->check(CLI::PositiveNumber);
  app.add_option("--warmup", options.warmup)->check(CLI::NonNegativeNumber);
  CLI11_PARSE(app, argc, argv);
  Config config;
  config::Schema schema;
  describe(schema, config);
  load(schema, config, options.config, options.assignments);
  std::printf("%s\n", measure(config, options).dump().c_str());
  return 0;
}

}  // namespace
}  // namespace catena

int main(int argc, char** argv) {
  try {
    return catena::run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
