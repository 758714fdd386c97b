#include <fmt/format.h>

#include <array>
#include <cmath>
#include <nlohmann/json.hpp>

#include "launcher/run_status.h"

namespace catena::launcher {
namespace {

using Json = nlohmann::json;

constexpr double kThousand = 1000, kHundred = 100;
constexpr int kMinute = 60, kHour = 3600, kDay = 86400;

template <class T>
Json or_null(const std::optional<T>& value) {
  return value ? Json(*value) : Json();
}

std::string percent(std::optional<double> ratio) {
  return ratio ? fmt::format("{:.0f}%", kHundred * *ratio) : "-";
}

std::string number_or_dash(std::optional<double> number) {
  return number ? fmt::format("{:.4f}", *number) : "-";
}

/// The first line, and nothing that moves a cursor.
std::string one_line(const std::string& text) {
  std::string line = text.substr(0, text.find('\n'));
  for (char& c : line) {
    if (static_cast<unsigned char>(c) < ' ' || c == '\x7f') c = ' ';
  }
  return line;
}

Json json_of(const RankStatus& rank) {
  Json json = {{"rank", rank.rank},
               {"state", rank.state},
               {"restarts", rank.restarts},
               {"last_error", rank.last_error},
               {"silent_seconds", or_null(rank.silent_seconds)},
               {"step", nullptr},
               {"loss", nullptr},
               {"tokens_per_second", nullptr},
               {"step_seconds", nullptr},
               {"imbalance", nullptr},
               {"waits", nullptr}};
  if (!rank.newest) return json;
  json["step"] = rank.newest->step;
  json["loss"] = or_null(rank.newest->loss);
  json["tokens_per_second"] = or_null(rank.newest->tokens_per_second);
  json["step_seconds"] = or_null(rank.newest->seconds);
  json["imbalance"] = or_null(rank.newest->imbalance);
  json["waits"] = or_null(rank.newest->waits);
  return json;
}

}  // namespace

std::string short_number(std::optional<double> number) {
  if (!number || !std::isfinite(*number)) return "-";
  double value = *number;
  const std::array<const char*, 5> units = {"", "k", "M", "G", "T"};
  std::size_t unit = 0;
  while (std::abs(value) >= kThousand && unit + 1 < units.size()) {
    value /= kThousand;
    ++unit;
  }
  return unit == 0 ? fmt::format("{:.0f}", value)
                   : fmt::format("{:.3g}{}", value, units[unit]);
}

std::string duration_text(double seconds) {
  const auto whole = static_cast<std::int64_t>(std::max(0.0, seconds));
  if (whole < kMinute) return fmt::format("{}s", whole);
  if (whole < kHour) {
    return fmt::format("{}m{:02}s", whole / kMinute, whole % kMinute);
  }
  if (whole < kDay) {
    return fmt::format("{}h{:02}m", whole / kHour, whole % kHour / kMinute);
  }
  return fmt::format("{}d{:02}h", whole / kDay, whole % kDay / kHour);
}

std::string headline(const RunStatus& status) {
  std::string text = status.state;
  if (status.exit_code) text += fmt::format(", code {}", *status.exit_code);
  if (status.launched) {
    text += fmt::format(", generation {}, {} restart{}", status.generation,
                        status.restarts, status.restarts == 1 ? "" : "s");
  }
  if (status.ended && status.seconds) {
    text += ", " + duration_text(*status.seconds);
  }
  return text;
}

std::vector<std::string> rank_table(const RunStatus& status) {
  std::vector<std::string> lines;
  lines.push_back(fmt::format("{:>5}  {:<9}{:>9}{:>9}{:>8}{:>7}{:>8}{:>10}  {}",
                              "rank", "state", "step", "loss", "tok/s", "waits",
                              "silent", "restarts", "last error"));
  for (const RankStatus& rank : status.ranks) {
    const StepMetrics none;
    const StepMetrics& newest = rank.newest ? *rank.newest : none;
    lines.push_back(fmt::format(
        "{:>5}  {:<9}{:>9}{:>9}{:>8}{:>7}{:>8}{:>10}  {}", rank.rank,
        rank.state, rank.newest ? fmt::format("{}", newest.step) : "-",
        number_or_dash(newest.loss), short_number(newest.tokens_per_second),
        percent(newest.waits),
        rank.silent_seconds && !status.ended
            ? duration_text(*rank.silent_seconds)
            : "-",
        rank.restarts, one_line(rank.last_error)));
    while (lines.back().ends_with(' ')) lines.back().pop_back();
  }
  return lines;
}

std::string status_text(const RunStatus& status) {
  std::string text = fmt::format("run         {}\nstate       {}\n",
                                 status.run.string(), headline(status));
  if (status.state == "LOST") {
    text +=
        "            nobody on this machine is at work on it, and how it ended "
        "is not\n            written: it was killed, or is on another "
        "machine\n";
  }
  if (status.process) {
    text += fmt::format("process     {} on this machine\n", *status.process);
  } else if (!status.ended && !status.host.empty()) {
    text += fmt::format("process     on {}\n", status.host);
  }
  if (status.checkpoint_step) {
    text += *status.checkpoint_step > 0
                ? fmt::format("checkpoint  step {}\n", *status.checkpoint_step)
                : "checkpoint  none yet\n";
  }
  if (!status.last_error.empty()) {
    text += "last error  " + one_line(status.last_error) + "\n";
  }
  for (const std::string& line : rank_table(status)) text += line + "\n";
  return text;
}

std::string status_json(const RunStatus& status) {
  Json ranks = Json::array();
  for (const RankStatus& rank : status.ranks) ranks.push_back(json_of(rank));
  const Json json = {{"run", status.run.string()},
                     {"launched", status.launched},
                     {"job", status.job},
                     {"host", status.host},
                     {"state", status.state},
                     {"ended", status.ended},
                     {"generation", status.generation},
                     {"restarts", status.restarts},
                     {"exit_code", or_null(status.exit_code)},
                     {"checkpoint_step", or_null(status.checkpoint_step)},
                     {"seconds", or_null(status.seconds)},
                     {"process", or_null(status.process)},
                     {"last_error", status.last_error},
                     {"ranks", ranks}};
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace catena::launcher
