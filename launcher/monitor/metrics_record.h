#pragma once

#include <array>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace catena::launcher {

/// What ranks exchange, as the phases of `catena_exchange_seconds` are called.
inline constexpr std::array<const char*, 8> kExchangePhases = {
    "plan",
    "dispatch",
    "combine",
    "combine_gradient",
    "dispatch_gradient",
    "gradients",
    "parameters",
    "control"};

/// [chain layer][iteration]
using LayerValues = std::vector<std::vector<double>>;

/// One line of metrics.jsonl, with the units of docs/operations.md. A number
/// that the line lacks, or that was not finite, is NaN.
struct MetricsRecord {
  static constexpr double kNone = std::numeric_limits<double>::quiet_NaN();
  enum class Kind { kStep, kValidation, kEvent };
  Kind kind = Kind::kStep;
  std::int64_t step = 0;

  // A step.
  double loss = kNone, gradient_norm = kNone, learning_rate = kNone;
  double seconds = kNone, tokens = kNone, tokens_total = kNone;
  double tokens_per_second = kNone, flops = kNone, mfu = kNone;
  double memory_bytes = kNone, memory_peak_bytes = kNone, epoch = kNone;
  LayerValues expert_load = {}, experts_idle = {}, router_entropy = {},
              rank_load = {};
  struct Phase {
    double exposed = 0, overlapped = 0;  ///< seconds
    double bytes = 0, across_bytes = 0;  ///< sent; of these, to other nodes
  };
  std::array<Phase, kExchangePhases.size()> phases = {};
  bool several_ranks = false;  ///< phases are there

  // A validation.
  double validation_loss = kNone;

  // An event; seconds and bytes of a checkpoint.
  std::string event = {}, reason = {};
  double checkpoint_bytes = kNone, checkpoint_stall = kNone,
         checkpoint_write = kNone;
};

/// Nothing where the line is none of metrics.jsonl's: a torn one, or of
/// another format. Never throws.
[[nodiscard]] std::optional<MetricsRecord> parse_metrics(std::string_view line);

/// One line of routing.jsonl.
struct RoutingRecord {
  std::int64_t step = 0, layer = 0, iteration = 0;
  std::vector<double> load = {};  ///< [experts] choices
  /// [experts][experts], from this iteration to the next; empty after the last.
  std::vector<double> transitions = {};
};

/// As parse_metrics(); nothing, too, where transitions are not experts squared.
[[nodiscard]] std::optional<RoutingRecord> parse_routing(std::string_view line);

}  // namespace catena::launcher
