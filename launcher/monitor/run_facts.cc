#include "launcher/monitor/run_facts.h"

#include <fmt/format.h>

#include <algorithm>

namespace catena::launcher {
namespace {

using Json = nlohmann::json;

constexpr std::size_t kMostReasons = 32;

const Json& member(const Json& json, const char* key) {
  static const Json none;
  if (!json.is_object()) return none;
  const auto found = json.find(key);
  return found == json.end() ? none : *found;
}

std::int64_t whole(const Json& json) {
  return json.is_number_integer() ? json.get<std::int64_t>() : 0;
}

std::string cause_of(const Json& failure) {
  const std::int64_t signal = whole(member(failure, "signal"));
  const std::int64_t code = whole(member(failure, "code"));
  if (signal > 0 && signal < 128) return fmt::format("signal_{}", signal);
  if (code > 0 && code < 256) return fmt::format("code_{}", code);
  return "other";
}

}  // namespace

RunFacts::RunFacts(const RunView& view, double now)
    : generation(whole(member(view.job, "generation"))) {
  const Json& list = member(view.job, "restarts");
  if (list.is_array()) {
    for (const Json& restart : list) restarts[cause_of(restart)] += 1;
  }
  failures = restarts;
  // In other states it is that of the last restart.
  const Json& failure = member(view.job, "first_failure");
  if (failure.is_object() && view.state() == "FAILED") {
    failures[cause_of(failure)] += 1;
  }
  const Json& control = member(view.job, "control");
  const Json& reasons = member(control, "connections_rejected");
  if (reasons.is_object() && reasons.size() <= kMostReasons) {
    for (const auto& [reason, count] : reasons.items()) {
      rejected[reason] = static_cast<double>(whole(count));
    }
  }
  if (member(control, "stale_messages").is_number_integer()) {
    stale = static_cast<double>(whole(member(control, "stale_messages")));
  }
  const Json& seconds = member(view.job, "seconds");
  if (seconds.is_number()) {
    wall_seconds = seconds.get<double>();
    if (!view.ended()) wall_seconds += std::max(0.0, now - view.job_modified);
  }
  if (view.ranks.empty() || view.ended()) return;
  const RankView& rank = view.ranks[0];
  if (rank.step > 0 && rank.step < view.steps) {
    eta_seconds = rank.step_seconds / static_cast<double>(rank.step) *
                  static_cast<double>(view.steps - rank.step);
  }
}

double fastest_rank(const RunView& view) {
  double fastest = 0;
  for (const RankView& rank : view.ranks) {
    if (rank.step == 0 || rank.busy <= 0) continue;
    if (fastest == 0 || rank.busy < fastest) fastest = rank.busy;
  }
  return fastest;
}

std::string rank_state(const RunView& view, int rank) {
  const Json& states = member(view.job, "rank_states");
  const auto index = static_cast<std::size_t>(rank);
  if (states.is_array() && index < states.size() && states[index].is_string()) {
    return states[index].get<std::string>();
  }
  return view.ended() ? "done" : "running";
}

}  // namespace catena::launcher
