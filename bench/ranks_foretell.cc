#include <cstdio>

#include "bench/rank_steps.h"
#include "bench/timing.h"
#include "training/forecast.h"
#include "training/plan.h"
#include "training/sources.h"

namespace catena::bench {
namespace {

/// What steps of one model tell about any other on the same ranks.
struct Calibration {
  KernelTable table;
  double busy_to_kernels = 1;  ///< a step without what it waits, to its kernels
  double copied_bytes_per_second = 1e18;
};

Calibration calibrate(const Steps& steps, const StepOptions& options) {
  const double kernels = steps.kernels.kernel_seconds() / options.steps;
  Calibration result{steps.kernels,
                     (steps.middle() - steps.exposed_seconds) / kernels};
  if (steps.sent_bytes > 0) {
    result.copied_bytes_per_second =
        2 * steps.sent_bytes / (steps.middle() - kernels);
  }
  // The table is of all steps.
  for (auto& [name, entry] : result.table.kernels) {
    entry.cost.flops /= options.steps;
    entry.cost.read_bytes /= options.steps;
    entry.cost.write_bytes /= options.steps;
    entry.seconds /= options.steps;
  }
  return result;
}

Forecast foretell(const Config& config, int ranks, const Calibration& from,
                  const Link* slow) {
  const auto backend = make_cpu_backend(1);
  const Link copies{.bytes_per_second = from.copied_bytes_per_second,
                    .takes_core = true};
  return forecast(
      config, resolve_precision(config.train.precision, *backend), ranks,
      {.name = "this machine",
       .ranks_per_node = ranks,
       .peak_flops = 1,
       .kernels = from.table.model(slow != nullptr ? from.busy_to_kernels : 1),
       .inside = slow != nullptr ? *slow : copies,
       .across = copies});
}

}  // namespace

void foretell_ranks(const StepOptions& options) {
  std::printf(
      "| ranks | wire | model | tokens a step | chunks | step foretold, s | "
      "step, s | off %% | exposed foretold %% | exposed %% |\n"
      "|--:|--|--|--:|--:|--:|--:|--:|--:|--:|\n");
  struct Run {
    int iterations, top_k, chunks;
    const char* tokens;
    bool slow;
  };
  const Run runs[] = {{1, 8, 1, "4096", false},
                      {4, 4, 1, "2048", false},
                      {1, 8, 2, "8192", true},
                      {3, 4, 2, "4096", true}};
  for (const int ranks : {1, 2, 4, 8}) {
    if (ranks > options.ranks) break;
    const Config known = load_config(options);
    const Calibration from =
        calibrate(measure(known, options, ranks, 1), options);
    for (const Run& run : runs) {
      if (run.slow && ranks == 1) continue;
      const Config config = load_config(
          options, {fmt::format("model.chain.iterations={}", run.iterations),
                    fmt::format("model.chain.top_k={}", run.top_k),
                    fmt::format("parallel.chunks={}", run.chunks),
                    fmt::format("train.batch_tokens={}", run.tokens),
                    fmt::format("train.micro_batch_tokens={}", run.tokens)});
      const Forecast fast = foretell(config, ranks, from, nullptr);
      const Link link{.bytes_per_second =
                          static_cast<double>(fast.traffic.total().sent_bytes) /
                          (options.wire * fast.kernel_seconds),
                      .latency_seconds = 20e-6};
      const Link* slow = run.slow ? &link : nullptr;
      const Forecast expected =
          run.slow ? foretell(config, ranks, from, slow) : fast;
      const Steps found =
          measure(config, options, ranks, 1, {.simulated = slow});
      std::printf(
          "| %d | %s | %s | %s | %d | %.3f | %.3f | %+.1f | %.1f | %.1f |\n",
          ranks, run.slow ? "slow" : "memory", model_name(config.model).c_str(),
          run.tokens, run.chunks, expected.step_seconds, found.middle(),
          100 * (expected.step_seconds / found.middle() - 1),
          100 * expected.traffic.total().exposed_seconds /
              expected.step_seconds,
          100 * found.exposed_seconds / found.middle());
    }
  }
}

}  // namespace catena::bench
