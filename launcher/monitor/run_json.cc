#include "launcher/monitor/run_json.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "launcher/monitor/run_facts.h"

namespace catena::launcher {
namespace {

using Json = nlohmann::json;

/// Six significant digits; null where it is not finite.
Json rounded(double value) {
  if (!std::isfinite(value)) return nullptr;
  return std::strtod(fmt::format("{:.6g}", value).c_str(), nullptr);
}

std::string dump(const Json& json) {
  // What ranks write may be no UTF-8.
  return json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

Json part_of(const Json& job, const char* key) {
  if (!job.is_object()) return nullptr;
  const auto found = job.find(key);
  return found == job.end() ? Json() : *found;
}

Json ranks_json(const RunView& view, double now) {
  Json ranks = Json::array();
  const double fastest = fastest_rank(view);
  for (const RankView& rank : view.ranks) {
    ranks.push_back(
        {{"rank", rank.rank},
         {"state", rank_state(view, rank.rank)},
         {"step", rank.step},
         {"age_seconds", rank.modified > 0
                             ? rounded(std::max(0.0, now - rank.modified))
                             : Json()},
         {"step_seconds", rounded(rank.seconds)},
         {"exposed_seconds", rounded(rank.exposed)},
         {"straggler", fastest > 0 ? rounded(rank.busy / fastest) : Json()},
         {"memory_bytes", rank.memory_bytes},
         {"memory_peak_bytes", rank.memory_peak_bytes}});
  }
  return ranks;
}

Json events_json(const RunView& view) {
  Json events = Json::array();
  for (const EventView& event : view.events) {
    events.push_back({{"step", event.step},
                      {"event", event.name},
                      {"reason", event.reason}});
  }
  return events;
}

Json newest_json(const RunView& view) {
  if (view.ranks.empty() || view.ranks[0].step == 0) return nullptr;
  const MetricsRecord& last = view.last;
  return {{"step", last.step},
          {"loss", rounded(last.loss)},
          {"validation_loss", rounded(view.validation_loss)},
          {"gradient_norm", rounded(last.gradient_norm)},
          {"learning_rate", rounded(last.learning_rate)},
          {"tokens_total", last.tokens_total},
          {"tokens_per_second", rounded(last.tokens_per_second)},
          {"mfu", rounded(last.mfu)},
          {"step_seconds", rounded(last.seconds)},
          {"epoch", rounded(last.epoch)}};
}

Json whole_numbers(const std::vector<double>& values) {
  Json result = Json::array();
  for (const double value : values) {
    result.push_back(std::llround(std::clamp(value, -1e15, 1e15)));
  }
  return result;
}

Json layers_json(const std::vector<std::vector<std::vector<double>>>& layers) {
  Json result = Json::array();
  for (const auto& layer : layers) {
    Json iterations = Json::array();
    for (const auto& values : layer)
      iterations.push_back(whole_numbers(values));
    result.push_back(std::move(iterations));
  }
  return result;
}

}  // namespace

std::string run_json(const RunView& view, double now) {
  const RunFacts facts(view, now);
  Json json = {
      {"version", view.version},
      {"name", view.name},
      {"state", view.state()},
      {"ended", view.ended()},
      {"steps", view.steps},
      {"newest", newest_json(view)},
      {"eta_seconds", rounded(facts.eta_seconds)},
      {"wall_seconds", rounded(facts.wall_seconds)},
      {"productive_seconds",
       rounded(view.ranks.empty() ? 0 : view.ranks[0].step_seconds)},
      {"generation", facts.generation},
      {"checkpoint_step", view.checkpoint_step},
      {"checkpoint_age_seconds",
       view.checkpoint_step > 0
           ? rounded(std::max(0.0, now - view.checkpoint_time))
           : Json()},
      {"ranks", ranks_json(view, now)},
      {"events", events_json(view)},
      {"read", rounded(view.bytes > 0 ? view.bytes_read / view.bytes : 1)}};
  for (const char* key : {"restarts", "first_failure", "exit_code", "host"}) {
    json[key] = part_of(view.job, key);
  }
  return dump(json);
}

std::string series_json(const RunView& view) {
  const auto points = view.series.points();
  Json json = {{"stride", view.series.stride()}, {"step", Json::array()}};
  for (const auto& point : points) json["step"].push_back(point.step);
  for (std::size_t i = 0; i < kColumns.size(); ++i) {
    Json& column = json[kColumns[i]] = Json::array();
    for (const auto& point : points) {
      column.push_back(rounded(point.values[i]));
    }
  }
  Json& validation =
      json["validation"] = {{"step", Json::array()}, {"loss", Json::array()}};
  for (const auto& point : view.validation.points()) {
    validation["step"].push_back(point.step);
    validation["loss"].push_back(rounded(point.values[0]));
  }
  return dump(json);
}

std::string routing_json(const RunView& view) {
  Json snapshots = Json::array();
  for (const RoutingSnapshot& snapshot : view.routing) {
    snapshots.push_back(
        {{"step", snapshot.step}, {"load", layers_json(snapshot.load)}});
  }
  return dump({{"snapshots", snapshots},
               {"transitions", layers_json(view.transitions)}});
}

}  // namespace catena::launcher
