#include <fmt/format.h>

#include "launcher/preflight/preflight_state.h"

namespace catena::launcher {
namespace {

constexpr std::size_t kMostNamed = 8;

double seconds(Duration duration) {
  return std::chrono::duration<double>(duration).count();
}

int agent_count(const PreflightState& state) {
  return static_cast<int>(state.options.hosts.size());
}

std::vector<int> missing_agents(const PreflightState& state) {
  if (state.number != 0) {  // it has asked them
    return {state.asked.begin(), state.asked.end()};
  }
  std::vector<int> agents;
  for (int agent = 0; agent < agent_count(state); ++agent) {
    if (!state.there.contains(agent) && !state.gone.contains(agent)) {
      agents.push_back(agent);
    }
  }
  return agents;
}

}  // namespace

const char* name_of(PreflightStage stage) {
  switch (stage) {
    case PreflightStage::kGather:
      return "start";
    case PreflightStage::kClock:
      return "clock";
    case PreflightStage::kMachine:
      return "machine";
    case PreflightStage::kCompute:
      return "compute";
    case PreflightStage::kListen:
      return "listen";
    case PreflightStage::kLink:
      return "link";
    case PreflightStage::kDone:
      return "done";
  }
  return "";
}

Missing missing(const PreflightState& state) {
  const std::vector<int> agents = missing_agents(state);
  Missing found{.agents = agents.size()};
  for (std::size_t i = 0; i < agents.size() && i <= kMostNamed; ++i) {
    if (i > 0) found.names += ", ";
    found.names +=
        i == kMostNamed
            ? "..."
            : fmt::format(
                  "{} ({})", agents[i],
                  state.options.hosts.at(static_cast<std::size_t>(agents[i])));
  }
  return found;
}

std::string waiting_text(const PreflightState& state, Time now) {
  const Missing who = missing(state);
  const Duration limit = state.stage == PreflightStage::kGather
                             ? state.options.patience
                             : state.options.probe_time;
  return fmt::format(
      "preflight waits for {} of {} agents ({}): {}; {:.0f} s "
      "of {:.0f} s",
      who.agents, agent_count(state), name_of(state.stage), who.names,
      seconds(now - state.asked_at), seconds(limit));
}

}  // namespace catena::launcher
