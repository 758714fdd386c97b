#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "parallel/link.h"
#include "training/config.h"
#include "training/kernel_table.h"

namespace catena::bench {

class SlowWire;

/// What the command line of catena-bench-ranks says.
struct StepOptions {
  std::string config;
  std::vector<std::string> assignments;
  int ranks = 2, steps = 2, rounds = 3;
  double wire = 0.5;  ///< seconds on the wire to those of compute
  std::string link = "simulated";
  std::vector<int> iterations = {1, 2, 4}, chunks = {1, 2, 4};
  std::string timeline;        ///< a file, or ""
  std::string replay_routing;  ///< a file of routes, or "": balanced
};

/// The configuration, with --set and `more` set, and balanced routing where no
/// file's routes are replayed.
[[nodiscard]] Config load_config(const StepOptions& options,
                                 const std::vector<std::string>& more = {});

/// Steps on rows of random tokens, as a rank measured them.
struct Steps {
  std::vector<double> seconds;                             ///< a step
  KernelTable kernels;                                     ///< of all steps
  double tokens = 0, sent_bytes = 0, exposed_seconds = 0;  ///< a step
  /// What a raw exchange found, on a wire that is slow and real.
  std::optional<Link> wire;

  [[nodiscard]] double middle() const;
  [[nodiscard]] double mean() const;
  /// Of a step, what no exchange kept waiting.
  [[nodiscard]] double busy() const { return mean() - exposed_seconds; }
};

/// Over what ranks that are processes exchange rows.
struct RankWire {
  const Link* simulated = nullptr;  ///< shared memory, made so slow
  SlowWire* real = nullptr;         ///< Gloo over this one; two ranks
};                                  // neither: shared memory

/// Every rank in a process of its own, that one's memory is not another's.
/// Where `timeline` is not empty, rank 0 writes its last step there
/// (Timeline::write).
/// Returns: the steps of each rank.
/// Throws: what a rank threw, as std::runtime_error.
[[nodiscard]] std::vector<Steps> measure(const Config& config,
                                         const StepOptions& options, int ranks,
                                         int threads, const RankWire& wire = {},
                                         const std::string& timeline = "");

/// As measure(), of layouts that differ in their chunks alone. The same
/// processes take a step of each in turn: how memory lies, and how fast a core
/// is in that second, is then no part of what sets them apart.
/// Returns: for each layout, the steps of each rank.
[[nodiscard]] std::vector<std::vector<Steps>> measure_in_turn(
    std::span<const Config> layouts, const StepOptions& options, int ranks,
    int threads, const RankWire& wire = {}, const std::string& timeline = "");

/// The three measurements; each prints a table in Markdown.
void compare_ranks(const StepOptions& options);
void measure_overlap(const StepOptions& options);
void foretell_ranks(const StepOptions& options);

}  // namespace catena::bench
