#include "training/routing_plan.h"

#include <algorithm>
#include <numeric>

#include "parallel/meta/transport.h"
#include "training/step.h"

namespace catena {
namespace {

/// A rank that computes shapes.
struct MetaRank {
  MetaRank(const Config& config, Precision precision, const Mesh& mesh,
           int rank, RecordedRouting& routing)
      : transport(make_meta_transport(rank, mesh.world)),
        backend(make_meta_backend()),
        ranks(*transport, *backend, mesh, config.placements(mesh),
              Communicator::Deadline(1), routing.rules()),
        model(*backend, config.model, precision, &ranks),
        optimizer(model.parameters(), config.optimizer, &ranks),
        step(model, optimizer, config) {
    ranks.set_modelled_routing(&routing);
    step.set_observer(&routing);
  }

  std::unique_ptr<Transport> transport;
  std::unique_ptr<Backend> backend;
  Ranks ranks;
  Model model;
  Optimizer optimizer;
  Step step;
};

/// The top_k experts whose tokens load one rank of a group most.
std::vector<std::int32_t> worst_experts(const Placement& placement, int of_node,
                                        std::int64_t top_k) {
  std::vector<std::int32_t> worst;
  std::int64_t most = -1;
  for (int rank = 0; rank < placement.ranks(); ++rank) {
    std::vector<std::pair<std::int64_t, std::int32_t>> served;
    for (std::int64_t e = 0; e < placement.experts(); ++e) {
      std::int64_t homes = 0;
      for (int home = 0; home < placement.ranks(); ++home) {
        homes += placement.server(e, home, of_node) == rank;
      }
      served.emplace_back(-homes, static_cast<std::int32_t>(e));
    }
    std::sort(served.begin(), served.end());
    served.resize(static_cast<std::size_t>(top_k));
    std::int64_t load = 0;
    for (const auto& [homes, expert] : served) load -= homes;
    if (load <= most) continue;
    most = load;
    worst.clear();
    for (const auto& [homes, expert] : served) worst.push_back(expert);
  }
  return worst;
}

RoutedStep worst_step(const Config& config, const Mesh& mesh,
                      const Placements& placements) {
  RoutedStep step;
  step.step = 1;
  for (std::int64_t row = 1; row <= config.rows_per_step(); ++row) {
    step.row_offsets.push_back(row * config.data.sequence);
  }
  const RouteShape shape = RouteShape::of(config.model);
  for (std::int64_t layer = 0; layer < shape.layers; ++layer) {
    const auto experts =
        worst_experts(placements[layer], mesh.of_node(), shape.top_k);
    for (std::int64_t i = 0; i < shape.iterations * step.tokens(); ++i) {
      step.experts.insert(step.experts.end(), experts.begin(), experts.end());
    }
  }
  return step;
}

void add_load(RecordedRouting& routing, const RouteShape& shape,
              std::int64_t step, RoutingPlan& plan) {
  for (std::int64_t layer = 0; layer < shape.layers; ++layer) {
    for (std::int64_t t = 0; t < shape.iterations; ++t) {
      const std::vector<double> rows = routing.rows(layer, t);
      for (std::size_t r = 0; r < rows.size(); ++r) {
        plan.ranks[r].rows += rows[r];
      }
      const double ratio = max_to_mean(rows);
      if (ratio > plan.worst.max_to_mean) plan.worst = {ratio, step, layer, t};
    }
  }
}

void add_step(MetaRank& rank, const data::Batch& batch, std::int64_t number,
              RoutingPlan::OfRank& result) {
  StepReport report;
  rank.step.compute(batch, number, report);
  rank.step.apply(report);
  const Traffic traffic = rank.ranks.take_traffic();
  for (std::size_t i = 0; i < kPhaseCount; ++i) {
    if (traffic.phases[i].collectives == 0) continue;
    const std::string phase(name(static_cast<Phase>(i)));
    result.exchange_bytes[phase] +=
        static_cast<double>(traffic.phases[i].sent_bytes);
    result.across_bytes[phase] +=
        static_cast<double>(traffic.phases[i].across_bytes);
  }
  result.activation_bytes =
      std::max(result.activation_bytes, rank.step.activation_bytes());
}

}  // namespace

double max_to_mean(const std::vector<double>& rows) {
  const double all = std::accumulate(rows.begin(), rows.end(), 0.0);
  const double most = *std::max_element(rows.begin(), rows.end());
  return all == 0 ? 1 : most * static_cast<double>(rows.size()) / all;
}

bool for_each_step(const Config& config, const Mesh& mesh,
                   const std::string& routing,
                   const std::function<void(const RoutedStep&)>& take) {
  if (routing == "worst") {
    take(worst_step(config, mesh, config.placements(mesh)));
    return false;
  }
  const RouteFile file(routing);
  file.check_shape(RouteShape::of(config.model));
  if (file.steps().empty()) {
    fail(ErrorKind::kData, "{}: holds no step; nothing can be said of it",
         routing);
  }
  RoutedStep step;
  for (const std::int64_t number : file.steps()) {
    file.read(number, step);
    take(step);
  }
  return file.shape().forced_balanced;
}

RoutingPlan plan_routing(const Config& config, Precision precision,
                         const Mesh& mesh, const std::string& routing) {
  const RouteShape shape = RouteShape::of(config.model);
  RoutingPlan plan;
  plan.routing = routing;
  plan.ranks.resize(static_cast<std::size_t>(mesh.world));
  const Placements placements = config.placements(mesh);
  RecordedRouting recorded(
      config, mesh, placements,
      config.dispatch_rules(config.micro_rows(mesh.world)));
  std::vector<std::unique_ptr<MetaRank>> ranks;
  for (int rank = 0; rank < mesh.world; ++rank) {
    ranks.push_back(
        std::make_unique<MetaRank>(config, precision, mesh, rank, recorded));
  }
  plan.forced_balanced =
      for_each_step(config, mesh, routing, [&](const RoutedStep& step) {
        recorded.set_step(step);
        add_load(recorded, shape, step.step, plan);
        for (int rank = 0; rank < mesh.world; ++rank) {
          const auto at = static_cast<std::size_t>(rank);
          recorded.set_rank(rank);
          add_step(*ranks[at], recorded.batch(), step.step, plan.ranks[at]);
        }
        ++plan.steps;
      });
  std::vector<double> rows;
  for (const RoutingPlan::OfRank& rank : plan.ranks) rows.push_back(rank.rows);
  plan.load_max_to_mean = max_to_mean(rows);
  plan.busiest = static_cast<std::size_t>(
      std::max_element(rows.begin(), rows.end()) - rows.begin());
  return plan;
}

}  // namespace catena
