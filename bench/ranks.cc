// catena-bench-ranks CONFIG [--set KEY=VALUE]... [--ranks N] [--rounds N]
// Training steps on full rows of random tokens, routing forced to be balanced:
//   without more    N processes of one thread, experts over all of them,
//                   against one process of N threads, in turn
//   --overlap       N processes on a wire whose bytes take --wire (0.5) of the
//                   time that a step computes, for C and chunks of 1, 2 and 4:
//                   what is exposed, and what the order of issue leaves so
//   --foretell      steps of N ranks that the kernel table of another model
//                   foretells, on both wires, and what they took
// Prints Markdown.

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "bench/program.h"
#include "bench/random_rows.h"
#include "bench/timing.h"
#include "parallel/simulated/transport.h"
#include "runtime/base/files.h"
#include "training/forecast.h"
#include "training/kernel_table.h"
#include "training/plan.h"
#include "training/rank_processes.h"
#include "training/sources.h"

namespace catena::bench {
namespace {

namespace fs = std::filesystem;

struct Options {
  std::string config;
  std::vector<std::string> assignments;
  int ranks = 2, steps = 2, rounds = 3;
  bool overlap = false, foretell = false;
  double wire = 0.5;
};

Config load_config(const Options& options,
                   const std::vector<std::string>& more = {}) {
  Config config;
  config::Schema schema;
  describe(schema, config);
  std::vector<std::string> all = options.assignments;
  all.push_back("model.router.force_balanced=true");
  all.insert(all.end(), more.begin(), more.end());
  load(schema, config, options.config, all);
  return config;
}

/// What rank 0 measured, a step.
struct Steps {
  std::vector<double> seconds;
  KernelTable kernels;
  double sent_bytes = 0, exposed_seconds = 0;

  [[nodiscard]] double middle() const { return median(seconds); }
};

Steps run_steps(const Config& config, const Options& options, Backend& backend,
                Ranks* ranks) {
  const Precision precision =
      resolve_precision(config.train.precision, backend);
  Model model(backend, config.model, precision, ranks);
  model.parameters().initialize(0);
  Optimizer optimizer(model.parameters(), config.optimizer, ranks);
  Step step(model, optimizer, config);
  Steps result;
  StepReport report;
  constexpr int kWarmup = 2;
  for (int number = 1; number <= kWarmup + options.steps; ++number) {
    const data::Batch batch =
        random_rows(config, static_cast<std::uint64_t>(number));
    if (ranks != nullptr) wait(ranks->world().barrier({}));
    if (number == kWarmup + 1) {
      backend.kernels().reset_counts();
      if (ranks != nullptr) (void)ranks->take_traffic();
    }
    const double seconds = seconds_of([&] {
      step.compute(batch, number, report);
      step.apply(report);
    });
    if (number > kWarmup) result.seconds.push_back(seconds);
  }
  for (const KernelCount& count : backend.kernels()) {
    result.kernels.kernels[std::string(count.name)] = {count.cost,
                                                       count.seconds};
  }
  if (ranks != nullptr) {
    const PhaseTraffic total = ranks->take_traffic().total();
    result.sent_bytes = static_cast<double>(total.sent_bytes) / options.steps;
    result.exposed_seconds = total.exposed_seconds / options.steps;
  }
  return result;
}

/// In processes of their own, that one rank's memory is not another's.
/// link: null for the shared memory itself.
Steps measure(const Config& config, const Options& options, int ranks,
              int threads, const Link* link) {
  const fs::path folder = fs::temp_directory_path() /
                          fmt::format("catena-bench-ranks-{}", ::getpid());
  fs::create_directories(folder);
  const fs::path table = folder / "kernels.json", rest = folder / "rest.json";
  std::fflush(stdout);  // or every process would print it
  const int code = run_rank_processes({.ranks = ranks}, [&](Member& member) {
    Transport& wire = *member.transport;
    const auto backend = make_cpu_backend(threads);
    const auto slow =
        link != nullptr ? simulated::make_transport(wire, *link) : nullptr;
    Transport& transport = slow ? *slow : wire;
    const Mesh mesh = config.mesh(ranks);
    const auto group =
        ranks > 1 ? std::make_unique<Ranks>(
                        transport, *backend, mesh, config.placements(mesh),
                        Communicator::Deadline(600),
                        config.dispatch_rules(config.micro_rows(ranks)))
                  : nullptr;
    const Steps steps = run_steps(config, options, *backend, group.get());
    if (transport.rank() == 0) {
      save(steps.kernels, table);
      write_file_atomically(
          rest, nlohmann::json{{"seconds", steps.seconds},
                               {"sent_bytes", steps.sent_bytes},
                               {"exposed_seconds", steps.exposed_seconds}}
                    .dump());
    }
    if (group) wait(group->world().barrier({}));
    return 0;
  });
  if (code != 0) throw std::runtime_error("a rank failed");
  const auto json = nlohmann::json::parse(read_file(rest));
  Steps result{json.at("seconds"), *load_kernel_table(table),
               json.at("sent_bytes"), json.at("exposed_seconds")};
  fs::remove_all(folder);
  return result;
}

void compare(const Options& options) {
  const Config config = load_config(options);
  std::vector<double> alone, together, ratios, exposed;
  const auto rate = [&](const Steps& steps) {
    return static_cast<double>(config.train.batch_tokens) / steps.middle();
  };
  for (int round = 0; round < options.rounds; ++round) {
    const Steps one = measure(config, options, 1, options.ranks, nullptr);
    const Steps many = measure(config, options, options.ranks, 1, nullptr);
    alone.push_back(rate(one));
    together.push_back(rate(many));
    ratios.push_back(rate(many) / rate(one));
    exposed.push_back(100 * many.exposed_seconds / many.middle());
  }
  const auto cell = [](const std::vector<double>& values, int digits) {
    const auto [low, high] = std::minmax_element(values.begin(), values.end());
    return fmt::format("{:.{}f} ({:.{}f}-{:.{}f})", median(values), digits,
                       *low, digits, *high, digits);
  };
  std::printf(
      "| model | tokens a step | 1 process of %d threads, tokens/s | "
      "%d processes of 1 thread, tokens/s | ratio | exposed %% | rounds |\n"
      "|--|--:|--:|--:|--:|--:|--:|\n| %s | %lld | %s | %s | %s | %s | %d |\n",
      options.ranks, options.ranks, model_name(config.model).c_str(),
      static_cast<long long>(config.train.batch_tokens), cell(alone, 0).c_str(),
      cell(together, 0).c_str(), cell(ratios, 3).c_str(),
      cell(exposed, 1).c_str(), options.rounds);
}

void overlap(const Options& options) {
  std::printf(
      "| C | chunks | step, fast wire, s | step, slow wire, s | exposed %% | "
      "by the order of issue %% | wire, MB/s "
      "|\n|--:|--:|--:|--:|--:|--:|--:|\n");
  for (const int iterations : {1, 2, 4}) {
    double bytes_per_second = 0;
    for (const int chunks : {1, 2, 4}) {
      const Config config = load_config(
          options, {fmt::format("model.chain.iterations={}", iterations),
                    fmt::format("parallel.chunks={}", chunks)});
      const Steps fast = measure(config, options, options.ranks, 1, nullptr);
      const double busy = fast.middle() - fast.exposed_seconds;
      if (chunks == 1) {
        bytes_per_second = fast.sent_bytes / (options.wire * busy);
      }
      const Link link{.bytes_per_second = bytes_per_second,
                      .latency_seconds = 20e-6};
      const Steps slow = measure(config, options, options.ranks, 1, &link);
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
      std::printf(
          "| %d | %d | %.3f | %.3f | %.1f | %.1f | %.0f |\n", iterations,
          chunks, fast.middle(), slow.middle(),
          100 * slow.exposed_seconds / slow.middle(),
          100 * bound.traffic.total().exposed_seconds / bound.step_seconds,
          bytes_per_second * 1e-6);
      std::fflush(stdout);
    }
  }
}

/// What steps of one model tell about any other on the same ranks.
struct Calibration {
  KernelTable table;
  double busy_to_kernels = 1;  ///< a step without what it waits, to its kernels
  double copied_bytes_per_second = 1e18;
};

Calibration calibrate(const Steps& steps, const Options& options) {
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

void foretell(const Options& options) {
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
        calibrate(measure(known, options, ranks, 1, nullptr), options);
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
      const Steps found = measure(config, options, ranks, 1, slow);
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

}  // namespace

int run(int argc, char** argv) {
  CLI::App app("Times training steps of several ranks on random tokens.",
               "catena-bench-ranks");
  Options options;
  app.add_option("config", options.config)->required();
  app.add_option("--set", options.assignments, "KEY=VALUE; repeatable");
  app.add_option("--ranks", options.ranks)->check(CLI::Range(2, 64));
  app.add_option("--steps", options.steps)->check(CLI::PositiveNumber);
  app.add_option("--rounds", options.rounds)->check(CLI::PositiveNumber);
  app.add_flag("--overlap", options.overlap);
  app.add_flag("--foretell", options.foretell);
  app.add_option("--wire", options.wire,
                 "What the wire takes of the time that a step computes")
      ->check(CLI::PositiveNumber);
  CLI11_PARSE(app, argc, argv);
  if (options.overlap) {
    overlap(options);
  } else if (options.foretell) {
    foretell(options);
  } else {
    compare(options);
  }
  return 0;
}

}  // namespace catena::bench
