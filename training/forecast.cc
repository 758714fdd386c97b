#include "training/forecast.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "layers/model.h"
#include "training/full_rows.h"
#include "training/metrics.h"
#include "training/optimizer.h"
#include "training/routing_plan.h"
#include "training/step.h"

namespace catena {
namespace {

using Json = nlohmann::ordered_json;

/// One rank of a modelled run.
class ModelledRank {
 public:
  ModelledRank(const Config& config, Precision precision, const Mesh& mesh,
               const Cluster& cluster, int rank = 0)
      : config_(config),
        mesh_(mesh),
        backend_(make_meta_backend(cluster.kernels)),
        transport_(make_meta_transport(
            rank, mesh.world,
            {.ranks_per_node = static_cast<int>(cluster.ranks_per_node),
             .inside = cluster.inside,
             .across = cluster.across,
             .computed = [this] { return backend_->kernels().seconds(); }})),
        ranks_(*transport_, *backend_, mesh, config.placements(mesh), kForever,
               config.dispatch_rules(config.micro_rows(mesh.world))),
        model_(*backend_, config.model, precision, ranks_or_none()),
        optimizer_(model_.parameters(), config.optimizer, ranks_or_none()) {
    for (std::int64_t i = 0; i < config.parallel.chunks; ++i) {
      chunks_.push_back(model_.make_chunk());
      chunks_.back()->recompute = config.train.recompute == "layer";
    }
  }

  void run(Forecast& result) {
    add(result, [&] { balanced_step(); });
  }

  /// The step that `routing` has, as the rank that it has.
  void run(RecordedRouting& routing, std::int64_t number, Forecast& result) {
    ranks_.set_modelled_routing(&routing);
    Step step(model_, optimizer_, config_);
    step.set_observer(&routing);
    add(result, [&] {
      StepReport report;
      step.compute(routing.batch(), number, report);
      step.apply(report);
    });
  }

 private:
  static constexpr Communicator::Deadline kForever{1e9};

  template <class Work>
  void add(Forecast& result, const Work& work) {
    const double begin = transport_->now();
    const double computed = backend_->kernels().seconds();
    work();
    result.step_seconds += transport_->now() - begin;
    result.kernel_seconds += backend_->kernels().seconds() - computed;
    result.traffic += ranks_.take_traffic();
  }

  void balanced_step() {
    const std::int64_t rows = config_.rows_per_step();
    const std::int64_t at_once =
        std::max<std::int64_t>(
            1, config_.train.micro_batch_tokens / config_.data.sequence) *
        mesh_.world;
    for (std::int64_t row = 0; row < rows; row += at_once) {
      const std::int64_t count = std::min(at_once, rows - row);
      micro_batch((count + mesh_.world - 1) / mesh_.world, row + count == rows);
    }
    optimizer_.sum_gradients();
    if (mesh_.world > 1) model_.statistics().sum(ranks_.world());
    (void)optimizer_.gradient_norm();
    optimizer_.update(1, 1, 1);
  }

  [[nodiscard]] Ranks* ranks_or_none() {
    return mesh_.world > 1 ? &ranks_ : nullptr;
  }
  void micro_batch(std::int64_t rows, bool last) {
    const FullRows full(rows, config_.data.sequence);
    Tokens tokens = full.tokens();
    tokens.batch_tokens = static_cast<std::int64_t>(full.ids.size());
    model_.train(tokens, {}, chunks_, last ? &optimizer_ : nullptr);
  }

  const Config& config_;
  Mesh mesh_;
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<Transport> transport_;
  Ranks ranks_;
  Model model_;
  Optimizer optimizer_;
  std::vector<std::unique_ptr<Chunk>> chunks_;
};

/// Of the step, in percent.
double percent(double seconds, const Forecast& forecast) {
  return 100 * seconds / forecast.step_seconds;
}

std::string modelled(const Forecast& forecast) {
  return "modelled: one rank's step on shapes alone, " +
         (forecast.routing == "balanced"
              ? "balanced routing"
              : fmt::format("the busiest rank's under routing {}{}",
                            forecast.routing,
                            forecast.forced_balanced
                                ? " (FORCED BALANCED: experts were dealt out, "
                                  "not chosen)"
                                : ""));
}

/// Ranks lie on the cluster's nodes; the last may have fewer.
Mesh mesh_on(const Cluster& cluster, const Config& config, int ranks) {
  const std::int64_t said = config.parallel.ranks_per_node;
  if (said != 0 && said != cluster.ranks_per_node) {
    fail(ErrorKind::kConfig,
         "parallel.ranks_per_node = {}, but nodes of cluster {} have {} ranks "
         "(node.ranks); leave the key at 0",
         said, cluster.name, cluster.ranks_per_node);
  }
  const Mesh mesh = config.mesh(ranks);
  return make_mesh(ranks, mesh.expert, config.model.chain.routed_experts,
                   {.ranks = cluster.ranks_per_node,
                    .hierarchical = config.parallel.hierarchical});
}

}  // namespace

namespace {

/// Rows that each rank's experts serve, where every expert has as many.
std::vector<double> balanced_rows(const Config& config, const Mesh& mesh) {
  const Placements placements = config.placements(mesh);
  std::vector<double> rows(static_cast<std::size_t>(mesh.expert));
  const std::int64_t layers = RouteShape::of(config.model).layers;
  for (std::int64_t layer = 0; layer < layers; ++layer) {
    const Placement& placement = placements[layer];
    for (std::int64_t e = 0; e < placement.experts(); ++e) {
      for (int home = 0; home < mesh.expert; ++home) {
        ++rows[static_cast<std::size_t>(
            placement.server(e, home, mesh.of_node()))];
      }
    }
  }
  return rows;
}

Traffic mean(Traffic traffic, std::int64_t steps) {
  const auto count = static_cast<double>(steps);
  for (PhaseTraffic& phase : traffic.phases) {
    phase.sent_bytes /= steps;
    phase.across_bytes /= steps;
    phase.exposed_seconds /= count;
    phase.overlapped_seconds /= count;
  }
  traffic.overlapped_seconds /= count;
  return traffic;
}

/// Every step of `result.routing`, by the rank that it loads most.
void follow_routing(const Config& config, Precision precision,
                    const Cluster& cluster, Forecast& result) {
  const Mesh& mesh = result.mesh;
  const RouteShape shape = RouteShape::of(config.model);
  RecordedRouting routing(config, mesh, config.placements(mesh),
                          config.dispatch_rules(config.micro_rows(mesh.world)));
  std::map<int, ModelledRank> ranks;
  std::vector<double> of_all(static_cast<std::size_t>(mesh.world));
  std::int64_t steps = 0, tokens = 0;
  result.forced_balanced =
      for_each_step(config, mesh, result.routing, [&](const RoutedStep& step) {
        routing.set_step(step);
        std::vector<double> rows(of_all.size());
        for (std::int64_t layer = 0; layer < shape.layers; ++layer) {
          for (std::int64_t t = 0; t < shape.iterations; ++t) {
            const std::vector<double> served = routing.rows(layer, t);
            for (std::size_t r = 0; r < rows.size(); ++r) rows[r] += served[r];
          }
        }
        for (std::size_t r = 0; r < rows.size(); ++r) of_all[r] += rows[r];
        const auto busiest = static_cast<int>(
            std::max_element(rows.begin(), rows.end()) - rows.begin());
        routing.set_rank(busiest);
        ranks.try_emplace(busiest, config, precision, mesh, cluster, busiest)
            .first->second.run(routing, step.step, result);
        tokens += step.tokens();
        ++steps;
      });
  result.load_max_to_mean = max_to_mean(of_all);
  result.batch_tokens = tokens / steps;
  result.step_seconds /= static_cast<double>(steps);
  result.kernel_seconds /= static_cast<double>(steps);
  result.traffic = mean(result.traffic, steps);
}

}  // namespace

Forecast forecast(const Config& config, Precision precision, int ranks,
                  const Cluster& cluster, const std::string& routing) {
  Forecast result;
  result.mesh = mesh_on(cluster, config, ranks);
  result.batch_tokens = config.train.batch_tokens;
  result.routing = routing;
  const Estimate needs = estimate(config, precision, result.mesh);
  result.memory_bytes = needs.total_bytes();
  CATENA_CHECK(routing == "balanced" || ranks > 1,
               "[forecast] one rank exchanges nothing under {}", routing);
  if (routing == "balanced") {
    result.load_max_to_mean = max_to_mean(balanced_rows(config, result.mesh));
    ModelledRank(config, precision, result.mesh, cluster).run(result);
  } else {
    follow_routing(config, precision, cluster, result);
  }
  result.model_flops_per_second =
      needs.flops_per_token * result.tokens_per_second();
  result.peak_flops = cluster.peak_flops * ranks;
  return result;
}

std::vector<Forecast> forecast_scaling(const Config& config,
                                       Precision precision,
                                       std::span<const int> ranks,
                                       Scaling scaling, const Cluster& cluster,
                                       const std::string& routing) {
  std::vector<Forecast> forecasts;
  for (const int count : ranks) {
    Config scaled = config;
    if (scaling == Scaling::kWeak) scaled.train.batch_tokens *= count;
    if (scaled.rows_per_step() < count) {
      fail(ErrorKind::kConfig,
           "train.batch_tokens = {}: {} rows of {} are fewer than {} ranks; "
           "raise it, or scale weakly",
           scaled.train.batch_tokens, scaled.rows_per_step(),
           scaled.data.sequence, count);
    }
    forecasts.push_back(forecast(scaled, precision, count, cluster, routing));
  }
  return forecasts;
}

std::string forecast_text(std::span<const Forecast> forecasts,
                          const Cluster& cluster) {
  std::string text = fmt::format(
      "{}, cluster {} ({} ranks a node)\n\n"
      "| ranks | data x expert | tokens a step | step ms | tokens/s | MFU % | "
      "exposed % | of it dispatch and combine % | overlapped % | GiB a rank | "
      "MiB sent | of it to other nodes | load max/mean |\n"
      "|--:|:-:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n",
      modelled(forecasts.front()), cluster.name, cluster.ranks_per_node);
  for (const Forecast& f : forecasts) {
    const PhaseTraffic total = f.traffic.total();
    double rows = 0;
    for (const Phase phase :
         {Phase::kDispatch, Phase::kCombine, Phase::kCombineGradient,
          Phase::kDispatchGradient}) {
      rows += f.traffic[phase].exposed_seconds;
    }
    text += fmt::format(
        "| {} | {} x {} | {} | {:.2f} | {} | {:.1f} | {:.1f} | {:.1f} | {:.1f} "
        "| {:.1f} | {:.1f} | {:.1f} | {:.2f} |\n",
        f.mesh.world, f.mesh.data(), f.mesh.expert, f.batch_tokens,
        1e3 * f.step_seconds, human_number(f.tokens_per_second()),
        100 * f.mfu(), percent(total.exposed_seconds, f), percent(rows, f),
        percent(total.overlapped_seconds, f),
        static_cast<double>(f.memory_bytes) / (1 << 30),
        static_cast<double>(total.sent_bytes) / (1 << 20),
        static_cast<double>(total.across_bytes) / (1 << 20),
        f.load_max_to_mean);
  }
  return text;
}

std::string forecast_json(std::span<const Forecast> forecasts,
                          const Cluster& cluster) {
  Json json{{"modelled", modelled(forecasts.front())},
            {"routing", forecasts.front().routing},
            {"forced_balanced", forecasts.front().forced_balanced},
            {"cluster", cluster.name},
            {"ranks_a_node", cluster.ranks_per_node},
            {"forecasts", Json::array()}};
  for (const Forecast& f : forecasts) {
    Json phases;
    for (std::size_t i = 0; i < kPhaseCount; ++i) {
      const PhaseTraffic& phase = f.traffic.phases[i];
      phases[std::string(name(static_cast<Phase>(i)))] = {
          {"bytes", phase.sent_bytes},
          {"across_bytes", phase.across_bytes},
          {"exposed_seconds", phase.exposed_seconds},
          {"overlapped_seconds", phase.overlapped_seconds}};
    }
    json["forecasts"].push_back({{"ranks", f.mesh.world},
                                 {"ranks_that_share_experts", f.mesh.expert},
                                 {"tokens_a_step", f.batch_tokens},
                                 {"step_seconds", f.step_seconds},
                                 {"kernel_seconds", f.kernel_seconds},
                                 {"tokens_a_second", f.tokens_per_second()},
                                 {"mfu", f.mfu()},
                                 {"load_max_to_mean", f.load_max_to_mean},
                                 {"memory_bytes_a_rank", f.memory_bytes},
                                 {"exchanges", phases}});
  }
  return json.dump(2) + "\n";
}

}  // namespace catena
