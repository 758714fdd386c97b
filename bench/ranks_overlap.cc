#include <algorithm>
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

constexpr double kSimulatedLatency = 20e-6;

/// The rank that computed longest. What another waits for it, no wire does: two
/// cores of a shared machine differ by a third for seconds at a time.
Steps slowest(std::vector<Steps> ranks) {
  return std::move(*std::max_element(
      ranks.begin(), ranks.end(),
      [](const Steps& a, const Steps& b) { return a.busy() < b.busy(); }));
}

/// What the order of issue leaves exposed of these steps on `link`, where
/// kernels and all else that keeps the core take what they took in them.
double bound_percent(const Config& config, const StepOptions& options,
                     const Steps& steps, const Link& link) {
  const double kernels = steps.kernels.kernel_seconds() / options.steps;
  const auto backend = make_cpu_backend(1);
  const Forecast bound =
      forecast(config, resolve_precision(config.train.precision, *backend),
               options.ranks,
               {.name = "measured",
                .ranks_per_node = 1,
                .peak_flops = 1,
                .kernels = steps.kernels.model(steps.busy() / kernels),
                .inside = link,
                .across = link});
  return 100 * bound.traffic.total().exposed_seconds / bound.step_seconds;
}

/// One row of the table, of all rounds.
struct Row {
  Config config;
  std::vector<double> fast{}, slow{}, exposed{}, bound{}, above{};
  std::vector<double> times_first{};  ///< fast, of the first row's that round
  Link found{};
};

void measure_slow(const StepOptions& options, const Steps& fast, SlowWire* real,
                  Link& link, Row& row) {
  if (link.bytes_per_second == 0) {
    link.bytes_per_second = fast.sent_bytes / (options.wire * fast.busy());
    if (real != nullptr) real->set_rate(link.bytes_per_second);
  }
  const RankWire wire =
      real != nullptr ? RankWire{.real = real} : RankWire{.simulated = &link};
  const Steps slow = slowest(
      measure(row.config, options, options.ranks, 1, wire, options.timeline));
  row.found = slow.wire.value_or(link);
  row.slow.push_back(slow.mean());
  row.exposed.push_back(100 * slow.exposed_seconds / slow.mean());
  row.bound.push_back(bound_percent(row.config, options, slow, row.found));
  row.above.push_back(row.exposed.back() - row.bound.back());
}

/// The rows of one C: the wire's rate is that of the first.
void measure_chain(const StepOptions& options, int iterations, SlowWire* real) {
  std::vector<Row> rows;
  std::vector<Config> layouts;
  for (const int chunks : options.chunks) {
    layouts.push_back(load_config(
        options, {fmt::format("model.chain.iterations={}", iterations),
                  fmt::format("parallel.chunks={}", chunks)}));
    rows.push_back({layouts.back()});
  }
  Link link{.latency_seconds = kSimulatedLatency};
  for (int round = 0; round < options.rounds; ++round) {
    auto fast = measure_in_turn(layouts, options, options.ranks, 1);
    for (std::size_t i = 0; i < rows.size(); ++i) {
      Row& row = rows[i];
      const Steps steps = slowest(std::move(fast[i]));
      row.fast.push_back(steps.mean());
      row.times_first.push_back(row.fast.back() / rows.front().fast.back());
      if (options.link != "none") {
        measure_slow(options, steps, real, link, row);
      }
    }
  }
  for (const Row& row : rows) {
    std::printf("| %d | %d | %s | %s |", iterations,
                static_cast<int>(row.config.parallel.chunks),
                with_spread(row.fast, 3).c_str(),
                with_spread(row.times_first, 2).c_str());
    if (!row.slow.empty()) {
      std::printf(
          " %.3f | %s | %.1f | %s | %.0f | %.0f | %.0f |", median(row.slow),
          with_spread(row.exposed, 1).c_str(), median(row.bound),
          with_spread(row.above, 1).c_str(), link.bytes_per_second * 1e-6,
          row.found.bytes_per_second * 1e-6, row.found.latency_seconds * 1e6);
    }
    std::printf("\n");
  }
  std::fflush(stdout);
}

}  // namespace

void measure_overlap(const StepOptions& options) {
  const bool real = options.link == "namespaces";
  if (real && options.ranks != 2) {
    fail(ErrorKind::kUsage,
         "--link namespaces joins 2 ranks, not {}: leave --ranks out",
         options.ranks);
  }
  const bool slow = options.link != "none";
  const auto wire = real ? std::make_unique<SlowWire>() : nullptr;
  std::printf(
      "Slow wire: %s.\n\n"
      "Medians of %d rounds of %d steps (lowest-highest).\n\n"
      "| C | chunks | step, fast wire, s | times that of the first |",
      real   ? "Gloo over TCP between two network namespaces, a veth pair with "
               "tc-tbf each way"
      : slow ? "shared memory, made slow (simulated)"
             : "none",
      options.rounds, options.steps);
  if (slow) {
    std::printf(
        " step, slow wire, s | exposed %% | by the order of issue %% | above, "
        "points | wire set to, MB/s | %s, MB/s | latency, us |",
        real ? "a raw exchange found" : "modelled");
  }
  std::printf("\n|--:|--:|--:|--:|%s\n",
              slow ? "--:|--:|--:|--:|--:|--:|--:|" : "");
  for (const int iterations : options.iterations) {
    measure_chain(options, iterations, wire.get());
  }
}

}  // namespace catena::bench
