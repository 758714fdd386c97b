#include <cstdio>
#include <memory>

#include "bench/rank_steps.h"
#include "bench/slow_wire.h"
#include "training/forecast.h"
#include "training/plan.h"
#include "training/sources.h"

namespace catena::bench {
namespace {

constexpr double kSimulatedLatency = 20e-6;

/// What the order of issue leaves exposed of a step on `link`, where compute
/// takes what it took on a wire that is fast.
double bound_percent(const Config& config, const StepOptions& options,
                     const Steps& fast, const Link& link) {
  const double busy = fast.middle() - fast.exposed_seconds;
  const double kernels = fast.kernels.kernel_seconds() / options.steps;
  const auto backend = make_cpu_backend(1);
  const Forecast bound =
      forecast(config, resolve_precision(config.train.precision, *backend),
               options.ranks,
               {.name = "measured",
                .ranks_per_node = 1,
                .peak_flops = 1,
                .kernels = fast.kernels.model(busy / kernels),
                .inside = link,
                .across = link});
  return 100 * bound.traffic.total().exposed_seconds / bound.step_seconds;
}

/// The rows of one C: the wire's rate is that of its first.
void measure_chain(const StepOptions& options, int iterations, SlowWire* real) {
  Link link{.latency_seconds = kSimulatedLatency};
  for (const int chunks : options.chunks) {
    const Config config = load_config(
        options, {fmt::format("model.chain.iterations={}", iterations),
                  fmt::format("parallel.chunks={}", chunks)});
    const Steps fast = measure(config, options, options.ranks, 1);
    if (link.bytes_per_second == 0) {
      const double busy = fast.middle() - fast.exposed_seconds;
      link.bytes_per_second = fast.sent_bytes / (options.wire * busy);
      if (real != nullptr) real->set_rate(link.bytes_per_second);
    }
    const RankWire wire =
        real != nullptr ? RankWire{.real = real} : RankWire{.simulated = &link};
    const Steps slow =
        measure(config, options, options.ranks, 1, wire, options.timeline);
    const Link found = slow.wire.value_or(link);
    std::printf(
        "| %d | %d | %.3f | %.3f | %.1f | %.1f | %.0f | %.0f | %.0f |\n",
        iterations, chunks, fast.middle(), slow.middle(),
        100 * slow.exposed_seconds / slow.middle(),
        bound_percent(config, options, fast, found),
        link.bytes_per_second * 1e-6, found.bytes_per_second * 1e-6,
        found.latency_seconds * 1e6);
    std::fflush(stdout);
  }
}

}  // namespace

void measure_overlap(const StepOptions& options) {
  const bool real = options.link == "namespaces";
  if (real && options.ranks != 2) {
    fail(ErrorKind::kUsage,
         "--link namespaces joins 2 ranks, not {}: leave --ranks out",
         options.ranks);
  }
  const auto wire = real ? std::make_unique<SlowWire>() : nullptr;
  std::printf(
      "Wire: %s.\n\n"
      "| C | chunks | step, fast wire, s | step, slow wire, s | exposed %% | "
      "by the order of issue %% | wire set to, MB/s | %s, MB/s | latency, us "
      "|\n|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n",
      real ? "Gloo over TCP between two network namespaces, a veth pair with "
             "tc-tbf each way"
           : "shared memory, made slow (simulated)",
      real ? "a raw exchange found" : "modelled");
  for (const int iterations : options.iterations) {
    measure_chain(options, iterations, wire.get());
  }
}

}  // namespace catena::bench
