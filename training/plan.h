#pragma once

#include <optional>
#include <string>

#include "training/estimate.h"
#include "training/routing_plan.h"

namespace catena {

/// What a run will be and take, without running it.
struct Plan {
  std::string name;  ///< "CoE-2(4/64)"
  DType type = DType::kFloat32;
  Mesh mesh;  ///< of several ranks, `needs` are those of one
  Estimate needs;
  std::string combinations;       ///< expert_combinations() of a chain layer
  std::int64_t memory_bytes = 0;  ///< that this machine has
  std::optional<double> step_seconds;  ///< nothing without a kernel table
  std::string step_seconds_from;       ///< the table's file and layout
  std::optional<RoutingPlan> routing;  ///< nothing: a balanced one

  /// Ranks of one machine: of a node; where nothing says what a node is, all.
  [[nodiscard]] MemorySharers sharers() const {
    return {.world = mesh.world, .of_machine = mesh.ranks_per_node};
  }
  [[nodiscard]] std::int64_t machine_bytes() const {
    return mesh.ranks_per_node * needs.total_bytes();
  }
};

/// "CoE-2(4/64)", or "MoE(8/64)": the paper's notation, N with the shared
/// experts.
[[nodiscard]] std::string model_name(const ModelConfig& config);

/// Of a run by `ranks` ranks, under the routing "balanced", "worst", or that of
/// a file of routes. Throws: as estimate() and plan_routing(), and
/// Error(kConfig) where the ranks do not fit the configuration.
[[nodiscard]] Plan make_plan(const Config& config, Precision precision,
                             int ranks = 1,
                             const std::string& routing = "balanced");

/// A table for people, and one JSON object.
[[nodiscard]] std::string plan_text(const Plan& plan, const Config& config);
[[nodiscard]] std::string plan_json(const Plan& plan, const Config& config);

}  // namespace catena
