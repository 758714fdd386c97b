#include "launcher/metrics_tail.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>

namespace catena::launcher {
namespace {

using Json = nlohmann::json;

constexpr std::size_t kMostEvents = 32;

std::optional<double> number(const Json& json, const char* name) {
  const auto at = json.find(name);
  if (at == json.end() || !at->is_number()) return std::nullopt;
  return at->get<double>();
}

/// The largest number in nested arrays.
std::optional<double> largest(const Json& json) {
  if (json.is_number()) return json.get<double>();
  std::optional<double> most;
  if (!json.is_array()) return most;
  for (const Json& inner : json) {
    const auto value = largest(inner);
    if (value && (!most || *value > *most)) most = value;
  }
  return most;
}

/// Share of `seconds` in which an exchange was waited for.
std::optional<double> waits_of(const Json& json,
                               std::optional<double> seconds) {
  const auto phases = json.find("catena_exchange_seconds");
  if (phases == json.end() || !seconds || *seconds <= 0) return std::nullopt;
  double exposed = 0;
  for (const Json& phase : *phases) {
    if (phase.is_object()) exposed += number(phase, "exposed").value_or(0);
  }
  return std::clamp(exposed / *seconds, 0.0, 1.0);
}

std::string event_text(const Json& json) {
  std::string text =
      fmt::format("step {}: {}", json.at("catena_step").get<std::int64_t>(),
                  json.at("catena_event").get<std::string>());
  const auto reason = json.find("reason");
  if (reason != json.end() && reason->is_string()) {
    text += ", " + reason->get<std::string>();
  }
  return text;
}

}  // namespace

std::vector<std::string> GrowingFile::lines() {
  struct stat status {};
  std::vector<std::string> lines;
  if (::stat(path_.c_str(), &status) != 0 || !S_ISREG(status.st_mode)) {
    return lines;
  }
  const bool first = file_ == 0;
  const std::int64_t size = status.st_size;
  if (status.st_ino != file_ || size < read_) {
    file_ = status.st_ino;
    read_ = 0;
    unfinished_.clear();
  }
  if (size == read_) return lines;
  bool cut = false;
  if (first && size > most_bytes_) {
    read_ = size - most_bytes_;
    cut = true;
  }
  std::string text(static_cast<std::size_t>(size - read_), '\0');
  std::ifstream file(path_, std::ios::binary);
  file.seekg(read_);
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<std::size_t>(file.gcount()));
  read_ += file.gcount();
  text.insert(0, unfinished_);
  std::size_t begin = cut ? std::min(text.find('\n'), text.size() - 1) + 1 : 0;
  for (std::size_t end = text.find('\n', begin); end != std::string::npos;
       end = text.find('\n', begin)) {
    lines.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  unfinished_ = text.substr(begin);
  return lines;
}

void MetricsTail::update() {
  for (const std::string& line : file_.lines()) {
    try {
      take(line);
    } catch (const Json::exception&) {
      // Cut by a full disk, or no metrics of ours.
    }
  }
}

void MetricsTail::take(const std::string& line) {
  const Json json = Json::parse(line);
  const auto step = json.at("catena_step").get<std::int64_t>();
  if (json.contains("catena_event")) {
    events_.push_back(event_text(json));
    if (events_.size() > kMostEvents) events_.erase(events_.begin());
    return;
  }
  const auto loss = json.find("catena_loss");
  const auto train = loss == json.end() ? std::nullopt : number(*loss, "train");
  if (!train) return;
  while (!losses_.empty() && losses_.back().step >= step) losses_.pop_back();
  losses_.push_back({step, *train});
  StepMetrics metrics{.step = step, .loss = train};
  metrics.tokens_per_second = number(json, "catena_tokens_per_second");
  metrics.seconds = number(json, "catena_step_duration_seconds");
  const auto loads = json.find("catena_expert_load_max_to_mean_ratio");
  if (loads != json.end()) metrics.imbalance = largest(*loads);
  metrics.waits = waits_of(json, metrics.seconds);
  newest_ = metrics;
}

}  // namespace catena::launcher
