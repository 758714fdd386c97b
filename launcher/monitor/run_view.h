#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "launcher/monitor/distribution.h"
#include "launcher/monitor/metrics_record.h"
#include "launcher/monitor/recoveries.h"
#include "launcher/monitor/thinned_series.h"

namespace catena::launcher {

/// The columns of RunView::series, [0] to [kColumns.size() - 1].
inline constexpr std::array<const char*, 21> kColumns = {
    "loss",
    "gradient_norm",
    "learning_rate",
    "tokens_per_second",
    "mfu",
    "step_seconds",
    "memory_bytes",
    "expert_load",  ///< worst of all layers and iterations, maximum over mean
    "rank_load",    ///< likewise
    "router_entropy",       ///< mean
    "experts_idle",         ///< sum
    "exchange_overlapped",  ///< seconds a step, all phases, rank 0
    "exposed",              ///< seconds a step, all phases, rank 0
    "exposed_plan",
    "exposed_dispatch",
    "exposed_combine",
    "exposed_combine_gradient",
    "exposed_dispatch_gradient",
    "exposed_gradients",
    "exposed_parameters",
    "exposed_control"};

/// One rank of a run, as its metrics.jsonl tells it.
struct RankView {
  int rank = 0;
  std::int64_t step = 0;  ///< newest
  double modified = 0;  ///< when the file was written to; seconds of the epoch
  double seconds = 0, exposed = 0;  ///< of the newest step
  double memory_bytes = 0, memory_peak_bytes = 0;
  /// Mean of seconds - exposed over the last steps: what a rank itself takes.
  double busy = 0;
  /// Sums over all steps; where metrics.every is above 1, a logged step stands
  /// for those since the one before.
  double flops = 0, step_seconds = 0;
  std::array<MetricsRecord::Phase, kExchangePhases.size()> phases = {};
  Distribution durations;  ///< seconds of logged steps

  explicit RankView(int number);
};

struct EventView {
  std::int64_t step = 0;
  std::string name = {}, reason = {};
};

/// The load of experts at one step: [layer][iteration][expert] choices.
struct RoutingSnapshot {
  std::int64_t step = 0;
  std::vector<std::vector<std::vector<double>>> load = {};
};

/// What is known of a run from its folder, in bounded memory.
struct RunView {
  static constexpr std::size_t kMostPoints = 1024, kMostEvents = 256,
                               kMostSnapshots = 32;

  RunView();

  std::string name = {};              ///< of the folder
  std::int64_t steps = 0;             ///< train.steps; 0: unknown
  std::int64_t checkpoint_every = 0;  ///< steps; 0: unknown, or at the end
  nlohmann::json job = {};            ///< job.json; null: none
  double job_modified = 0;
  nlohmann::json result = {};  ///< result.json; null: none
  Recoveries recoveries = {};
  std::vector<RankView> ranks = {};  ///< [0] is rank 0

  ThinnedSeries series;      ///< rank 0's steps, kColumns
  ThinnedSeries validation;  ///< one column
  MetricsRecord last = {};   ///< rank 0's newest step, if ranks[0].step > 0
  double validation_loss;    ///< newest; NaN: none
  std::deque<EventView> events = {};  ///< rank 0's, the newest last
  Distribution checkpoint_stall, checkpoint_write;
  double checkpoint_bytes = 0;
  std::int64_t checkpoint_failures = 0, skipped = 0;
  std::int64_t checkpoint_step = 0;  ///< newest; 0: none
  double checkpoint_time = 0;        ///< seconds of the epoch

  std::deque<RoutingSnapshot> routing = {};  ///< thinned evenly, newest last
  /// Of the newest snapshot: [layer][iteration][experts * experts].
  std::vector<std::vector<std::vector<double>>> transitions = {};

  double bytes = 0,
         bytes_read = 0;      ///< of all files; less: not read to the end
  std::uint64_t version = 0;  ///< changes whenever anything above does

  /// NEW ... CANCELLED as job.json has it or, without one, SUCCEEDED, FAILED,
  /// PREEMPTED as result.json says, and RUNNING where there is neither.
  [[nodiscard]] std::string state() const;
  [[nodiscard]] bool ended() const;
};

}  // namespace catena::launcher
