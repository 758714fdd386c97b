#include <cmath>
#include <cstdio>
#include <memory>

#include "bench/rank_steps.h"
#include "bench/slow_wire.h"
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
  /// A rank's waits on the fast wire, as if its core had copied all the while.
  double copied_bytes_per_second = 1e18;
};

Calibration calibrate(const Steps& steps, const StepOptions& options) {
  const double kernels = steps.kernels.kernel_seconds() / options.steps;
  Calibration result{steps.kernels,
                     (steps.mean() - steps.exposed_seconds) / kernels};
  if (steps.sent_bytes > 0) {
    result.copied_bytes_per_second =
        2 * steps.sent_bytes / steps.exposed_seconds;
  }
  return result;
}

Forecast foretell(const Config& config, int ranks, const Calibration& from,
                  const Link* slow) {
  const auto backend = make_cpu_backend(1);
  const Link copies{.bytes_per_second = from.copied_bytes_per_second,
                    .takes_core = true};
  return forecast(config, resolve_precision(config.train.precision, *backend),
                  ranks,
                  {.name = "this machine",
                   .ranks_per_node = ranks,
                   .peak_flops = 1,
                   .kernels = from.table.model(from.busy_to_kernels),
                   .inside = slow != nullptr ? *slow : copies,
                   .across = copies});
}

enum class Over { kMemory, kSimulated, kNamespaces };

const char* name(Over wire) {
  switch (wire) {
    case Over::kMemory:
      return "memory";
    case Over::kSimulated:
      return "slow";
    case Over::kNamespaces:
      return "slow, real";
  }
  return "";
}

/// Another size than the one that calibrates.
struct Run {
  int iterations, top_k, chunks;
  const char* tokens;
  Over wire;

  [[nodiscard]] bool possible(int ranks, const StepOptions& options) const {
    switch (wire) {
      case Over::kMemory:
        return true;
      case Over::kSimulated:
        return ranks > 1 && options.link != "none";
      case Over::kNamespaces:
        return ranks == 2 && options.link == "namespaces";
    }
    return false;
  }
  [[nodiscard]] Config config(const StepOptions& options) const {
    return load_config(options,
                       {fmt::format("model.chain.iterations={}", iterations),
                        fmt::format("model.chain.top_k={}", top_k),
                        fmt::format("parallel.chunks={}", chunks),
                        fmt::format("train.batch_tokens={}", tokens),
                        fmt::format("train.micro_batch_tokens={}", tokens)});
  }
};

constexpr Run kRuns[] = {
    {1, 8, 1, "4096", Over::kMemory},     {4, 4, 1, "3072", Over::kMemory},
    {1, 8, 2, "4096", Over::kSimulated},  {3, 4, 2, "3072", Over::kSimulated},
    {1, 8, 2, "4096", Over::kNamespaces}, {3, 4, 2, "3072", Over::kNamespaces}};

/// Of all rounds.
struct Found {
  std::vector<double> foretold, took, off_percent, foretold_exposed, exposed;

  [[nodiscard]] bool within(double percent) const {
    return std::abs(median(off_percent)) <= percent &&
           std::abs(median(foretold_exposed) - median(exposed)) <= percent;
  }
};

/// A run, and what was foretold of it.
struct Compared {
  Forecast expected;
  Steps steps;
};

Compared compare_on(Over wire, const Config& config, int ranks,
                    const StepOptions& options, const Calibration& from,
                    SlowWire* real) {
  Forecast fast = foretell(config, ranks, from, nullptr);
  if (wire == Over::kMemory) {
    return {std::move(fast), measure(config, options, ranks, 1).front()};
  }
  Link link{
      .bytes_per_second = static_cast<double>(fast.traffic.total().sent_bytes) /
                          (options.wire * fast.kernel_seconds),
      .latency_seconds = 20e-6};
  RankWire slow{.simulated = &link};
  if (wire == Over::kNamespaces) {
    real->set_rate(link.bytes_per_second);
    slow = {.real = real};
  }
  Steps steps = measure(config, options, ranks, 1, slow).front();
  link = steps.wire.value_or(link);
  return {foretell(config, ranks, from, &link), std::move(steps)};
}

void compare(const Run& run, int ranks, const StepOptions& options,
             SlowWire* real, Found& found) {
  const Calibration from = calibrate(
      measure(load_config(options), options, ranks, 1).front(), options);
  const auto [expected, steps] =
      compare_on(run.wire, run.config(options), ranks, options, from, real);
  found.foretold.push_back(expected.step_seconds);
  found.took.push_back(steps.mean());
  found.off_percent.push_back(100 * (expected.step_seconds / steps.mean() - 1));
  found.foretold_exposed.push_back(
      100 * expected.traffic.total().exposed_seconds / expected.step_seconds);
  found.exposed.push_back(100 * steps.exposed_seconds / steps.mean());
}

}  // namespace

void foretell_ranks(const StepOptions& options) {
  const auto real =
      options.link == "namespaces" ? std::make_unique<SlowWire>() : nullptr;
  std::printf(
      "| ranks | wire | model | tokens a step | chunks | step foretold, s | "
      "step, s | off %% | exposed foretold %% | exposed %% |\n"
      "|--:|--|--|--:|--:|--:|--:|--:|--:|--:|\n");
  constexpr double kGoal = 15;
  int runs = 0, good = 0;
  for (const int ranks : {1, 2, 4, 8}) {
    if (ranks > options.ranks) break;
    for (const Run& run : kRuns) {
      if (!run.possible(ranks, options)) continue;
      Found found;
      for (int round = 0; round < options.rounds; ++round) {
        compare(run, ranks, options, real.get(), found);
      }
      ++runs;
      good += found.within(kGoal) ? 1 : 0;
      std::printf(
          "| %d | %s | %s | %s | %d | %.3f | %.3f | %s | %.1f | %.1f |\n",
          ranks, name(run.wire), model_name(run.config(options).model).c_str(),
          run.tokens, run.chunks, median(found.foretold), median(found.took),
          with_spread(found.off_percent, 1).c_str(),
          median(found.foretold_exposed), median(found.exposed));
      std::fflush(stdout);
    }
  }
  std::printf(
      "\n%d of %d runs: step within %.0f %%, exposed within %.0f points of it. "
      "Medians of %d rounds (lowest-highest).\n",
      good, runs, kGoal, kGoal, options.rounds);
}

}  // namespace catena::bench
