#include "launcher/agent_state.h"

#include <algorithm>
#include <utility>

namespace catena::launcher {
namespace {

template <class Body>
Report report(const AgentState& state, Body body) {
  return {state.agent, state.generation, std::move(body)};
}

void add(AgentActions& actions, const RankState& rank,
         const RankActions& signals) {
  for (const SendSignal& send : signals) {
    actions.emplace_back(
        SignalRank{rank.ending.rank, rank.ending.process, send.signal});
  }
}

RankState* find(AgentState& state, int generation, int rank) {
  if (generation != state.generation) return nullptr;
  const auto at = state.ranks.find(rank);
  return at == state.ranks.end() ? nullptr : &at->second;
}

/// All ranks have ended: the generation is over.
void close_if_empty(AgentState& state, AgentActions& actions) {
  GenerationEmpty empty;
  for (const auto& entry : state.ranks) {
    if (entry.second.phase != RankState::Phase::kExited) return;
    empty.endings.push_back(entry.second.ending);
  }
  state.phase = AgentState::Phase::kReady;
  state.floor = state.generation;
  state.ranks.clear();
  actions.emplace_back(report(state, std::move(empty)));
}

AgentActions start(AgentState& state, int generation,
                   const StartGeneration& command) {
  if (state.phase != AgentState::Phase::kReady) {
    ++state.stale;
    return {};
  }
  state.phase = AgentState::Phase::kActive;
  state.generation = generation;
  AgentActions actions;
  for (const int rank : command.ranks) {
    state.ranks[rank].ending.rank = rank;
    actions.emplace_back(
        SpawnRank{generation, rank, command.world, command.rendezvous});
  }
  if (command.ranks.empty()) close_if_empty(state, actions);
  return actions;
}

AgentActions stop_all(AgentState& state, int generation, const Stop& command,
                      Time now) {
  AgentActions actions;
  if (state.phase == AgentState::Phase::kReady) {
    // It overtook its start, or comes before one: that one is fenced off.
    state.generation = generation;
    close_if_empty(state, actions);
    return actions;
  }
  if (generation != state.generation) {
    ++state.stale;
    return {};
  }
  state.phase = AgentState::Phase::kDraining;
  for (auto& [number, rank] : state.ranks) {
    const RankActions signals = stop(rank, command.at_once, state.grace, now);
    // One without a process yet gets them when it has: rank_spawned().
    if (rank.ending.process > 0) add(actions, rank, signals);
  }
  return actions;
}

}  // namespace

AgentActions receive(AgentState& state, const Command& command, Time now) {
  const int generation = command.generation;
  if (generation <= state.floor) {
    ++state.stale;
    return {};
  }
  return std::visit(Overloaded{[&](const OpenRendezvous&) -> AgentActions {
                                 if (state.phase == AgentState::Phase::kReady) {
                                   return {OpenListener{generation}};
                                 }
                                 ++state.stale;
                                 return {};
                               },
                               [&](const StartGeneration& body) {
                                 return start(state, generation, body);
                               },
                               [&](const Stop& body) {
                                 return stop_all(state, generation, body, now);
                               }},
                    command.body);
}

AgentActions listener_opened(AgentState& state, int generation,
                             const std::string& endpoint) {
  if (generation <= state.floor) return {};
  return {Report{state.agent, generation, RendezvousOpen{endpoint}}};
}

AgentActions rank_spawned(AgentState& state, int rank, int process, Time now) {
  RankState* at = find(state, state.generation, rank);
  if (at == nullptr) return {};
  at->ending.process = process;
  AgentActions actions = {report(state, RankStarted{rank, process})};
  if (at->ending.stopped) {
    const bool at_once = std::exchange(at->killed, false);
    at->ending.stopped = false;
    add(actions, *at, stop(*at, at_once, state.grace, now));
  }
  return actions;
}

AgentActions rank_said(AgentState& state, int generation, int rank,
                       std::string_view line) {
  RankState* at = find(state, generation, rank);
  if (at == nullptr) return {};
  const RankState::Phase before = at->phase;
  const std::int64_t step = at->ending.step;
  if (!hear(*at, line)) return {};
  AgentActions actions;
  if (before < RankState::Phase::kJoined &&
      at->phase >= RankState::Phase::kJoined) {
    actions.emplace_back(report(state, RankJoined{rank}));
  }
  if (at->ending.step > step) {
    actions.emplace_back(report(state, RankStepped{rank, at->ending.step}));
  }
  return actions;
}

AgentActions rank_reaped(AgentState& state, int generation, int rank, int code,
                         int signal, std::string last_words) {
  RankState* at = find(state, generation, rank);
  if (at == nullptr || !reap(*at, code, signal, std::move(last_words))) {
    return {};
  }
  AgentActions actions = {report(state, RankExited{at->ending})};
  close_if_empty(state, actions);
  return actions;
}

std::optional<Time> next_deadline(const AgentState& state) {
  std::optional<Time> first;
  for (const auto& entry : state.ranks) {
    const auto at = next_deadline(entry.second);
    if (at && (!first || *at < *first)) first = at;
  }
  return first;
}

AgentActions tick(AgentState& state, Time now) {
  AgentActions actions;
  for (auto& [number, rank] : state.ranks) {
    const RankActions signals = tick(rank, now);
    if (rank.ending.process > 0) add(actions, rank, signals);
  }
  return actions;
}

}  // namespace catena::launcher
