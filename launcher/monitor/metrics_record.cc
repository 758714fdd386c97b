#include "launcher/monitor/metrics_record.h"

#include <nlohmann/json.hpp>

namespace catena::launcher {
namespace {

using Json = nlohmann::json;

constexpr double kNone = MetricsRecord::kNone;
// As many layers and iterations as any model has; a foreign line may say more.
constexpr std::int64_t kMostLayers = 4096, kMostIterations = 256;
constexpr std::int64_t kMostStep = std::int64_t{1} << 53;

const Json* member(const Json& json, const char* key) {
  if (!json.is_object()) return nullptr;
  const auto found = json.find(key);
  return found == json.end() ? nullptr : &*found;
}

double number(const Json* json) {
  return json != nullptr && json->is_number() ? json->get<double>() : kNone;
}

double number(const Json& json, const char* key) {
  return number(member(json, key));
}

double number(const Json& json, const char* key, const char* inner) {
  const Json* outer = member(json, key);
  return outer == nullptr ? kNone : number(*outer, inner);
}

/// As above, 0 where there is none: to be added up.
double amount(const Json* outer, const char* key) {
  const double value = outer == nullptr ? kNone : number(*outer, key);
  return value >= 0 ? value : 0;
}

std::string text(const Json& json, const char* key) {
  const Json* found = member(json, key);
  return found != nullptr && found->is_string() ? found->get<std::string>()
                                                : std::string();
}

std::optional<std::int64_t> whole(const Json& json, const char* key,
                                  std::int64_t most) {
  const Json* found = member(json, key);
  if (found == nullptr || !found->is_number_integer()) return {};
  if (found->is_number_unsigned() &&
      found->get<std::uint64_t>() > static_cast<std::uint64_t>(most)) {
    return {};
  }
  const auto value = found->get<std::int64_t>();
  if (value < 0 || value > most) return {};
  return value;
}

LayerValues layers(const Json& json, const char* key) {
  LayerValues result;
  const Json* found = member(json, key);
  if (found == nullptr || !found->is_array()) return result;
  for (const Json& layer : *found) {
    result.emplace_back();
    if (!layer.is_array()) continue;
    for (const Json& value : layer) result.back().push_back(number(&value));
  }
  return result;
}

void read_phases(const Json& json, MetricsRecord& record) {
  const Json* seconds = member(json, "catena_exchange_seconds");
  record.several_ranks = seconds != nullptr;
  if (seconds == nullptr) return;
  for (std::size_t i = 0; i < kExchangePhases.size(); ++i) {
    const char* name = kExchangePhases[i];
    const Json* phase = member(*seconds, name);
    record.phases[i] = {
        amount(phase, "exposed"), amount(phase, "overlapped"),
        amount(member(json, "catena_exchange_bytes"), name),
        amount(member(json, "catena_exchange_across_bytes"), name)};
  }
}

void read_step(const Json& json, MetricsRecord& record) {
  record.loss = number(json, "catena_loss", "train");
  record.gradient_norm = number(json, "catena_grad_norm");
  record.learning_rate = number(json, "catena_learning_rate");
  record.seconds = number(json, "catena_step_duration_seconds");
  record.tokens = number(json, "catena_tokens");
  record.tokens_total = number(json, "catena_tokens_total");
  record.tokens_per_second = number(json, "catena_tokens_per_second");
  record.flops = number(json, "catena_model_flops");
  record.mfu = number(json, "catena_mfu_ratio");
  record.memory_bytes = number(json, "catena_memory_bytes", "host");
  record.memory_peak_bytes = number(json, "catena_memory_peak_bytes", "host");
  record.epoch = number(json, "catena_epoch");
  record.expert_load = layers(json, "catena_expert_load_max_to_mean_ratio");
  record.experts_idle = layers(json, "catena_experts_idle");
  record.router_entropy = layers(json, "catena_router_entropy_nats");
  record.rank_load = layers(json, "catena_rank_load_max_to_mean_ratio");
  read_phases(json, record);
}

bool numbers(const Json* json, std::vector<double>& result) {
  if (json == nullptr || !json->is_array()) return false;
  for (const Json& value : *json) {
    if (!value.is_number()) return false;
    result.push_back(value.get<double>());
  }
  return true;
}

}  // namespace

std::optional<MetricsRecord> parse_metrics(std::string_view line) {
  const Json json = Json::parse(line, nullptr, false);
  const auto step = whole(json, "catena_step", kMostStep);
  if (!step) return {};
  MetricsRecord record;
  record.step = *step;
  record.event = text(json, "catena_event");
  record.reason = text(json, "reason");
  record.checkpoint_bytes = number(json, "catena_checkpoint_bytes");
  record.checkpoint_stall = number(json, "catena_checkpoint_stall_seconds");
  record.checkpoint_write = number(json, "catena_checkpoint_write_seconds");
  const Json* loss = member(json, "catena_loss");
  const bool validation =
      loss != nullptr && member(*loss, "validation") != nullptr;
  record.validation_loss = number(json, "catena_loss", "validation");
  read_step(json, record);
  if (!record.event.empty()) {
    record.kind = MetricsRecord::Kind::kEvent;
  } else if (validation) {
    record.kind = MetricsRecord::Kind::kValidation;
  } else if (loss == nullptr &&
             member(json, "catena_step_duration_seconds") == nullptr) {
    return {};
  }
  return record;
}

std::optional<RoutingRecord> parse_routing(std::string_view line) {
  const Json json = Json::parse(line, nullptr, false);
  const auto step = whole(json, "step", kMostStep);
  const auto layer = whole(json, "layer", kMostLayers - 1);
  const auto iteration = whole(json, "iteration", kMostIterations - 1);
  if (!step || !layer || !iteration) return {};
  RoutingRecord record{*step, *layer, *iteration};
  if (!numbers(member(json, "load"), record.load) || record.load.empty()) {
    return {};
  }
  const std::size_t experts = record.load.size();
  const bool there = numbers(member(json, "transitions"), record.transitions);
  if (there && record.transitions.size() != experts * experts) return {};
  if (!there) record.transitions.clear();
  return record;
}

}  // namespace catena::launcher
