#include "training/metrics.h"

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <utility>

#include "runtime/base/error.h"
#include "runtime/base/files.h"
#include "runtime/base/log.h"

namespace catena {
namespace {

using Json = nlohmann::ordered_json;

std::FILE* open_append(const std::filesystem::path& path) {
  std::FILE* file = std::fopen(path.c_str(), "ae");
  if (file == nullptr) {
    fail(ErrorKind::kIo, "{}: cannot write: {}", path.string(),
         std::strerror(errno));
  }
  return file;
}

/// [layer][iteration] of one number of each summary.
template <class Number>
Json each_route(const StepReport& report, const Number& number) {
  Json layers = Json::array();
  for (const auto& layer : report.routes) {
    Json iterations = Json::array();
    for (const RouteSummary& summary : layer) {
      iterations.push_back(number(summary));
    }
    layers.push_back(std::move(iterations));
  }
  return layers;
}

struct Worst {
  double ratio = 0;
  std::size_t layer = 0, iteration = 0;
};

Worst worst_balance(const StepReport& report) {
  Worst worst;
  for (std::size_t l = 0; l < report.routes.size(); ++l) {
    for (std::size_t t = 0; t < report.routes[l].size(); ++t) {
      const double ratio = report.routes[l][t].max_to_mean();
      if (ratio > worst.ratio) worst = {ratio, l, t};
    }
  }
  return worst;
}

}  // namespace

namespace {

/// Seconds and bytes of every phase that had any, "_" for blanks.
void add_traffic(const StepReport& r, Json& json) {
  Json& seconds = json["catena_exchange_seconds"] = Json::object();
  Json& bytes = json["catena_exchange_bytes"] = Json::object();
  Json& across = json["catena_exchange_across_bytes"] = Json::object();
  for (std::size_t i = 0; i < kPhaseCount; ++i) {
    const PhaseTraffic& phase = r.traffic.phases[i];
    if (phase.collectives == 0) continue;
    std::string key(name(static_cast<Phase>(i)));
    std::replace(key.begin(), key.end(), ' ', '_');
    seconds[key] = {{"exposed", phase.exposed_seconds},
                    {"overlapped", phase.overlapped_seconds}};
    bytes[key] = phase.sent_bytes;
    across[key] = phase.across_bytes;
  }
  json["catena_rank_load_max_to_mean_ratio"] = r.rank_load;
  json["catena_dispatch_later_rounds"] = r.traffic.later_rounds;
  json["catena_rows_beyond_budget"] = r.traffic.rows_beyond_budget;
}

/// Every number of `json`, and every mark (true: 1), under `tag` and its place;
/// `depth` lists deep.
void add_scalars(const Json& json, const std::string& tag, int depth,
                 std::vector<Scalar>& found) {
  if (json.is_number()) found.push_back({tag, json.get<double>()});
  if (json.is_boolean()) found.push_back({tag, json.get<bool>() ? 1.0 : 0.0});
  if (json.is_object()) {
    for (const auto& item : json.items()) {
      add_scalars(item.value(), tag + "/" + item.key(), depth, found);
    }
  }
  if (!json.is_array()) return;
  for (std::size_t i = 0; i < json.size(); ++i) {
    const char* index = depth == 0 ? "layer" : "iteration";
    add_scalars(json[i], fmt::format("{}/{}_{}", tag, index, i), depth + 1,
                found);
  }
}

/// Those of a line of metrics.
std::vector<Scalar> scalars_of(const Json& line) {
  std::vector<Scalar> found;
  for (const auto& item : line.items()) {
    if (item.key().starts_with("catena_") && item.key() != "catena_step") {
      add_scalars(item.value(), item.key(), 0, found);
    }
  }
  return found;
}

}  // namespace

double StepReport::tokens_per_second() const {
  return seconds > 0 ? static_cast<double>(tokens) / seconds : 0;
}

double StepReport::exposed() const {
  return seconds > 0 ? traffic.total().exposed_seconds / seconds : 0;
}

double StepReport::mfu() const {
  return peak_flops > 0 && seconds > 0 ? flops / seconds / peak_flops : 0;
}

MetricsWriter::MetricsWriter(const std::filesystem::path& folder,
                             std::unique_ptr<EventFile> events)
    : metrics_(folder / "metrics.jsonl"),
      routing_(folder / "routing.jsonl"),
      events_(std::move(events)) {}

MetricsWriter::Lines::Lines(std::filesystem::path file)
    : path_(std::move(file)), file_(open_append(path_)) {}

MetricsWriter::Lines::~Lines() { std::fclose(file_); }

void MetricsWriter::Lines::add(const std::string& line) {
  // After a line that was cut short, the next one begins anew.
  const std::string text = (broken_ ? "\n" : "") + line + "\n";
  const bool written =
      std::fwrite(text.data(), 1, text.size(), file_) == text.size() &&
      std::fflush(file_) == 0;
  if (!written && !broken_) {
    log::warning("{}: cannot write: {}; training goes on without",
                 path_.string(), std::strerror(errno));
  }
  if (!written) std::clearerr(file_);
  broken_ = !written;
}

void MetricsWriter::write_step(const StepReport& r) {
  Json json{{"catena_step", r.step},
            {"catena_loss", {{"train", r.loss}}},
            {"catena_grad_norm", r.gradient_norm},
            {"catena_learning_rate", r.learning_rate},
            {"catena_step_duration_seconds", r.seconds},
            {"catena_tokens", r.tokens},
            {"catena_trained_tokens", r.trained_tokens},
            {"catena_tokens_total", r.total_tokens},
            {"catena_tokens_per_second", r.tokens_per_second()},
            {"catena_model_flops", r.flops},
            {"catena_mfu_ratio", r.mfu()},
            {"catena_memory_bytes", {{"host", r.memory_bytes}}},
            {"catena_memory_peak_bytes", {{"host", r.memory_peak_bytes}}},
            {"catena_epoch", r.epoch}};
  json["catena_expert_load_max_to_mean_ratio"] =
      each_route(r, [](const auto& s) { return s.max_to_mean(); });
  json["catena_experts_idle"] =
      each_route(r, [](const auto& s) { return s.idle(); });
  json["catena_router_entropy_nats"] =
      each_route(r, [](const auto& s) { return s.entropy_nats; });
  json["catena_auxiliary_loss"] =
      each_route(r, [](const auto& s) { return s.auxiliary_loss; });
  json["catena_router_z"] =
      each_route(r, [](const auto& s) { return s.z_loss; });
  if (r.forced_balanced) json["catena_forced_balanced"] = true;
  if (r.replayed) json["catena_routes_replayed"] = true;
  if (r.several_ranks) add_traffic(r, json);
  metrics_.add(json.dump());
  if (events_ == nullptr) return;
  // After a rewind steps come again.
  if (r.step <= std::exchange(last_step_, r.step)) events_->restart(r.step);
  std::vector<Scalar> scalars = scalars_of(json);
  scalars.push_back(
      {"catena_expert_load_max_to_mean_ratio/worst", worst_balance(r).ratio});
  if (r.several_ranks) scalars.push_back({"catena_exposed_ratio", r.exposed()});
  events_->write(r.step, scalars);
}

void MetricsWriter::write_validation(std::int64_t step, double loss,
                                     std::int64_t tokens) {
  const Json json{{"catena_step", step},
                  {"catena_loss", {{"validation", loss}}},
                  {"catena_trained_tokens", tokens}};
  metrics_.add(json.dump());
  if (events_ == nullptr) return;
  // The tokens would have the tag of a step's.
  const Scalar scalar{"catena_loss/validation", loss};
  events_->write(step, {&scalar, 1});
}

void MetricsWriter::write_routing(std::int64_t step,
                                  const RoutingStatistics& statistics) {
  for (std::int64_t l = 0; l < statistics.layers(); ++l) {
    for (std::int64_t t = 0; t < statistics.iterations(); ++t) {
      Json json{{"step", step}, {"layer", l}, {"iteration", t}};
      json["load"] = Json::array();
      for (const double count : statistics.summary(l, t).load) {
        json["load"].push_back(static_cast<std::int64_t>(count));
      }
      if (t + 1 < statistics.iterations()) {
        json["transitions"] = statistics.transitions(l, t);
      }
      routing_.add(json.dump());
    }
  }
}

void MetricsWriter::write_event(const char* event, std::int64_t step,
                                const std::string& facts) {
  Json json{{"catena_event", event}, {"catena_step", step}};
  json.update(Json::parse(facts));
  metrics_.add(json.dump());
  if (events_ == nullptr) return;
  const std::vector<Scalar> scalars = scalars_of(json);
  if (!scalars.empty()) events_->write(step, scalars);
}

void keep_metrics_up_to(std::int64_t step,
                        const std::filesystem::path& folder) {
  const auto keep = [&](const std::filesystem::path& path, const char* key) {
    if (!std::filesystem::exists(path)) return;
    std::ifstream lines(path);
    std::string kept;
    // A run that begins anew tells all again.
    for (std::string line; step > 0 && std::getline(lines, line);) {
      const Json json = Json::parse(line, nullptr, false);
      if (json.is_object() && json.value(key, step + 1) <= step) {
        kept += line + "\n";
      }
    }
    write_file_atomically(path, kept);
  };
  keep(folder / "metrics.jsonl", "catena_step");
  keep(folder / "routing.jsonl", "step");
}

std::string human_number(double value) {
  static constexpr const char* kSuffix[] = {"", "k", "M", "G", "T", "P"};
  std::size_t i = 0;
  while (std::abs(value) >= 999.5 && i + 1 < std::size(kSuffix)) {
    value /= 1000;
    ++i;
  }
  const int digits = i == 0 || value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2;
  return fmt::format("{:.{}f}{}", value, digits, kSuffix[i]);
}

std::string human_bytes(std::int64_t bytes) {
  const double mib = static_cast<double>(bytes) / (1 << 20);
  if (mib >= 1024) return fmt::format("{:.1f} GiB", mib / 1024);
  return fmt::format("{:.0f} MiB", mib);
}

std::string human_seconds(double seconds) {
  const auto s = static_cast<std::int64_t>(seconds + 0.5);
  if (s >= 3600) return fmt::format("{}h{:02}m", s / 3600, s / 60 % 60);
  if (s >= 60) return fmt::format("{}m{:02}s", s / 60, s % 60);
  return fmt::format("{}s", s);
}

std::string progress_text(const StepReport& r) {
  const int width = static_cast<int>(std::to_string(r.steps).size());
  const Worst worst = worst_balance(r);
  const std::string mfu =
      r.mfu() > 0 ? fmt::format("{:.0f}%", 100 * r.mfu()) : "n/a";
  std::string text = fmt::format(
      "step {:>{}}/{}  loss {:.4f}  grad {:.2f}  lr {:.1e}  {} tok/s  mfu {}"
      "  mem {}",
      r.step, width, r.steps, r.loss, r.gradient_norm, r.learning_rate,
      human_number(r.tokens_per_second()), mfu, human_bytes(r.memory_bytes));
  if (r.several_ranks)
    text += fmt::format("  waits {:.0f}%", 100 * r.exposed());
  if (const auto across = r.traffic.total().across_bytes; across > 0) {
    text += fmt::format("  across nodes {}", human_bytes(across));
  }
  if (worst.ratio > 0) {
    text += fmt::format("  experts {:.2f} L{}i{}", worst.ratio, worst.layer,
                        worst.iteration);
  }
  if (r.forced_balanced) text += "  FORCED BALANCED";
  if (r.replayed) text += "  ROUTES REPLAYED";
  return text;
}

}  // namespace catena
