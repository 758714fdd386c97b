#pragma once

#include <span>
#include <string>

#include "training/cluster.h"
#include "training/estimate.h"

namespace catena {

/// What an optimizer step will take on machines that are not there.
struct Forecast {
  Mesh mesh;
  std::string routing = "balanced";  ///< or "worst", or a file
  bool forced_balanced = false;      ///< its experts were dealt out
  double load_max_to_mean = 1;       ///< rows of the busiest rank's experts
  std::int64_t batch_tokens = 0;     ///< of the step, all ranks together
  double step_seconds = 0, kernel_seconds = 0;
  Traffic traffic;                    ///< of one rank, by phase
  double model_flops_per_second = 0;  ///< of all ranks
  double peak_flops = 0;              ///< the same, at their best
  std::int64_t memory_bytes = 0;      ///< of one rank

  [[nodiscard]] double tokens_per_second() const {
    return static_cast<double>(batch_tokens) / step_seconds;
  }
  [[nodiscard]] double mfu() const {
    return model_flops_per_second / peak_flops;
  }
};

/// Runs one step of full rows of the busiest rank on the meta backend, in
/// modelled time: the same layers, chunks and exchanges in the same order, so
/// what is hidden behind what is the program's own doing. All ranks do the same
/// at the same time.
/// `routing`: "balanced", or as plan_routing(): then each step of a file is
/// taken, by the rank whose experts it loads most, and the means are told. That
/// rank's bytes are those that a run with these routes counts.
/// Throws: as plan_routing(), and Error(kConfig) of what does not fit;
/// InvalidArgument for one rank that is to follow routes.
[[nodiscard]] Forecast forecast(const Config& config, Precision precision,
                                int ranks, const Cluster& cluster,
                                const std::string& routing = "balanced");

enum class Scaling {
  kStrong,  ///< the step's tokens are the configuration's
  kWeak,    ///< and so many times that, as there are ranks
};
[[nodiscard]] std::vector<Forecast> forecast_scaling(
    const Config& config, Precision precision, std::span<const int> ranks,
    Scaling scaling, const Cluster& cluster,
    const std::string& routing = "balanced");

/// Markdown, a line a forecast, and JSON. Both say that this is modelled.
[[nodiscard]] std::string forecast_text(std::span<const Forecast> forecasts,
                                        const Cluster& cluster);
[[nodiscard]] std::string forecast_json(std::span<const Forecast> forecasts,
                                        const Cluster& cluster);

}  // namespace catena
