#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "training/recorded_routing.h"

namespace catena {

/// What ranks would do under a routing that is known: a file's, or the worst.
struct RoutingPlan {
  std::string routing;           ///< "worst", or the file
  bool forced_balanced = false;  ///< its experts were dealt out, not chosen
  std::int64_t steps = 0;

  /// Of one rank, over all steps.
  struct OfRank {
    double rows = 0;  ///< choices that its experts serve, in forward
    std::map<std::string, double> exchange_bytes;  ///< sent, by phase
    std::map<std::string, double> across_bytes;    ///< of them, to other nodes
    std::int64_t activation_bytes = 0;             ///< arenas at their peak
  };
  std::vector<OfRank> ranks;

  /// Rows of the busiest rank over the mean: of all steps, layers and
  /// iterations together, and where this is worst.
  double load_max_to_mean = 1;
  std::size_t busiest = 0;
  struct Worst {
    double max_to_mean = 0;
    std::int64_t step = 0, layer = 0, iteration = 0;
  };
  Worst worst;
};

/// Calls `take` with every step of `routing`, "worst" or a file of routes.
/// "worst": full rows whose tokens all choose the same experts, those that load
/// one rank most. Returns whether a file's experts were dealt out, not chosen.
/// Throws: Error(kData) where the file is not of this model, or empty.
bool for_each_step(const Config& config, const Mesh& mesh,
                   const std::string& routing,
                   const std::function<void(const RoutedStep&)>& take);

/// Rows of the busiest over the mean; 1 where there are none.
[[nodiscard]] double max_to_mean(const std::vector<double>& rows);

/// Takes every step of `routing`, "worst" or a file of routes, on every rank of
/// `mesh`: the training step itself, on shapes alone.
/// Throws: as for_each_step().
[[nodiscard]] RoutingPlan plan_routing(const Config& config,
                                       Precision precision, const Mesh& mesh,
                                       const std::string& routing);

}  // namespace catena
