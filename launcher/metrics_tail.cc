#include "launcher/metrics_tail.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <cmath>
#include <fstream>

namespace catena::launcher {
namespace {

constexpr std::size_t kMostEvents = 32;

std::optional<double> known(double number) {
  return std::isnan(number) ? std::nullopt : std::optional(number);
}

/// Of all layers and iterations.
std::optional<double> largest(const LayerValues& values) {
  std::optional<double> most;
  for (const auto& layer : values) {
    for (const double value : layer) {
      if (!std::isnan(value)) most = std::max(most.value_or(value), value);
    }
  }
  return most;
}

/// Share of the step in which an exchange was waited for.
std::optional<double> waits_of(const MetricsRecord& step) {
  if (!step.several_ranks || !(step.seconds > 0)) return std::nullopt;
  double exposed = 0;
  for (const auto& phase : step.phases) exposed += phase.exposed;
  return std::clamp(exposed / step.seconds, 0.0, 1.0);
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
    // None: cut by a full disk, or no metrics of ours.
    if (const auto record = parse_metrics(line)) take(*record);
  }
}

void MetricsTail::take(const MetricsRecord& record) {
  if (record.kind == MetricsRecord::Kind::kEvent) {
    events_.push_back(fmt::format("step {}: {}{}{}", record.step, record.event,
                                  record.reason.empty() ? "" : ", ",
                                  record.reason));
    if (events_.size() > kMostEvents) events_.erase(events_.begin());
    return;
  }
  if (std::isnan(record.loss)) return;
  while (!losses_.empty() && losses_.back().step >= record.step) {
    losses_.pop_back();
  }
  losses_.push_back({record.step, record.loss});
  newest_ = {.step = record.step,
             .loss = record.loss,
             .tokens_per_second = known(record.tokens_per_second),
             .seconds = known(record.seconds),
             .imbalance = largest(record.expert_load),
             .waits = waits_of(record)};
}

}  // namespace catena::launcher
