#include "launcher/monitor/recoveries.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

namespace catena::launcher {
namespace {

using Json = nlohmann::json;

double number(const Json& line, const char* key, double otherwise) {
  const auto found = line.find(key);
  return found != line.end() && found->is_number() ? found->get<double>()
                                                   : otherwise;
}

bool says(const Json& line, const char* key, const Json& value) {
  const auto found = line.find(key);
  return found != line.end() && *found == value;
}

void add(Distribution& durations, double from, double to) {
  if (std::isfinite(to - from)) durations.add(std::max(0.0, to - from));
}

}  // namespace

// 4 ms to 2,100 s.
Recoveries::Recoveries()
    : stop(doubling(0.004, 20)), start(doubling(0.004, 20)) {}

void Recoveries::take(std::string_view line) {
  const Json json = Json::parse(line, nullptr, false);
  if (!json.is_object()) return;
  const double seconds = number(json, "seconds", kNever);
  if (json.contains("rank")) return take_ending(json, seconds);
  if (says(json, "state", "NEW")) {
    begin_generation(kNever);
  } else if (says(json, "state", "STOPPING")) {
    note_failure(seconds);
  } else if (says(json, "state", "RESTARTING")) {
    take_restart(json, seconds);
  } else if (says(json, "state", "RUNNING")) {
    add(start, restarting_, seconds);
    restarting_ = kNever;
    ran_ = true;
  }
}

void Recoveries::begin_generation(double restarting) {
  failed_ = kNever;
  furthest_ = kUntold;
  restarting_ = restarting;
  ran_ = false;
}

void Recoveries::take_ending(const Json& line, double seconds) {
  furthest_ = std::max(furthest_, number(line, "step", kUntold));
  if (!says(line, "done", true)) note_failure(seconds);
}

void Recoveries::note_failure(double seconds) {
  if (!std::isfinite(failed_)) failed_ = seconds;
}

void Recoveries::take_restart(const Json& line, double seconds) {
  add(stop, failed_, seconds);
  // Of ranks that were lost with their agent nothing else is known.
  if (ran_)
    furthest_ = furthest_ == kUntold ? number(line, "step", 0) : furthest_;
  lost_steps += std::max(0.0, furthest_ - number(line, "checkpoint_step", 0));
  begin_generation(seconds);
}

}  // namespace catena::launcher
