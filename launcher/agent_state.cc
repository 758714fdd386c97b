#include "launcher/agent_state.h"

#include <algorithm>
#include <utility>

namespace catena::launcher {
namespace {

template <class Body>
Report report(const AgentState& state, Body body) {
  return {state.agent, state.generation, std::move(body), state.incarnation};
}

void add(AgentActions& actions, const AgentState& state, const RankState& rank,
         const RankActions& todo) {
  // One without a process yet is stopped when it has: rank_spawned().
  const int process = rank.ending.process;
  if (process <= 0) return;
  const int number = rank.ending.rank;
  for (const RankAction& action : todo) {
    std::visit(
        Overloaded{
            [&](const SendSignal& send) {
              actions.emplace_back(SignalRank{number, process, send.signal});
            },
            [&](const Notice& notice) {
              const RankSuspected suspected{number, notice.verdict,
                                            notice.text};
              if (notice.verdict == RankSuspected::Verdict::kGoesOn) {
                actions.emplace_back(report(state, suspected));
              } else {
                actions.emplace_back(
                    InspectRank{state.generation, process, suspected});
              }
            }},
        action);
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
  state.ended = empty.endings;
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
  state.ended.clear();
  AgentActions actions;
  const int here = static_cast<int>(command.ranks.size());
  for (int local = 0; local < here; ++local) {
    const int rank = command.ranks[static_cast<std::size_t>(local)];
    state.ranks[rank].ending.rank = rank;
    actions.emplace_back(SpawnRank{generation, rank, command.world, local, here,
                                   command.node, command.nodes,
                                   command.rendezvous});
  }
  if (command.ranks.empty()) close_if_empty(state, actions);
  return actions;
}

void drain(AgentState& state, bool at_once, Time now, AgentActions& actions) {
  state.phase = AgentState::Phase::kDraining;
  for (auto& [number, rank] : state.ranks) {
    add(actions, state, rank, stop(rank, at_once, state.grace, now));
  }
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
  drain(state, command.at_once, now, actions);
  return actions;
}

AgentActions open(AgentState& state, int generation) {
  if (state.phase != AgentState::Phase::kReady || generation < state.opened) {
    ++state.stale;
    return {};
  }
  if (generation > state.opened) {
    state.opened = generation;
    state.endpoint.clear();
    return {OpenListener{generation}};
  }
  // Asked twice: another port would leave ranks at the first.
  if (state.endpoint.empty()) return {};
  return {Report{state.agent, generation, RendezvousOpen{state.endpoint},
                 state.incarnation}};
}

Heartbeat heartbeat(const AgentState& state) {
  Heartbeat beat{.endings = state.ended,
                 .empty = state.phase == AgentState::Phase::kReady};
  for (const auto& [number, rank] : state.ranks) {
    const RankEnding& ending = rank.ending;
    if (ending.joined) beat.joined.push_back(number);
    if (rank.phase == RankState::Phase::kExited) beat.endings.push_back(ending);
    beat.step = std::max(beat.step, ending.step);
  }
  return beat;
}

/// Whoever is heard no more may have started the next generation elsewhere.
void tick_contact(AgentState& state, Time now, AgentActions& actions) {
  if (state.lease_until && now >= *state.lease_until) {
    state.lease_until.reset();
    if (state.phase != AgentState::Phase::kReady) {
      drain(state, true, now, actions);
    }
  }
  if (!state.heartbeat_at || now < *state.heartbeat_at) return;
  state.heartbeat_at = now + state.contact.heartbeat;
  actions.emplace_back(report(state, heartbeat(state)));
}

template <class Question>
AgentActions ask_all(AgentState& state, int generation,
                     const Question& question) {
  AgentActions actions;
  if (generation != state.generation) {
    ++state.stale;
    return actions;
  }
  for (const auto& entry : state.ranks) {
    add(actions, state, entry.second, question(entry.second));
  }
  return actions;
}

}  // namespace

void begin(AgentState& state, Time now) {
  if (!state.contact.on()) return;
  state.heartbeat_at = now;
  state.lease_until = now + state.contact.lease;
}

AgentActions receive(AgentState& state, const Command& command, Time now) {
  const int generation = command.generation;
  if (state.contact.on()) state.lease_until = now + state.contact.lease;
  if (generation <= state.floor) {
    ++state.stale;
    return {};
  }
  if (generation > state.generation &&
      state.phase != AgentState::Phase::kReady) {
    AgentActions actions;
    ++state.stale;
    drain(state, true, now, actions);
    return actions;
  }
  return std::visit(
      Overloaded{[&](const OpenRendezvous&) { return open(state, generation); },
                 [&](const StartGeneration& body) {
                   return start(state, generation, body);
                 },
                 [&](const Stop& body) {
                   return stop_all(state, generation, body, now);
                 },
                 [&](const Save&) {
                   return ask_all(state, generation, [](const RankState& rank) {
                     return ask_to_save(rank);
                   });
                 },
                 [&](const Inspect&) {
                   return ask_all(state, generation,
                                  [now](const RankState& rank) {
                                    return inspect(rank, now);
                                  });
                 },
                 [](const Ping&) { return AgentActions(); }},
      command.body);
}

AgentActions listener_opened(AgentState& state, int generation,
                             const std::string& endpoint) {
  if (generation <= state.floor || generation != state.opened) return {};
  state.endpoint = endpoint;
  return {Report{state.agent, generation, RendezvousOpen{endpoint},
                 state.incarnation}};
}

AgentActions rank_spawned(AgentState& state, int rank, int process, Time now) {
  RankState* at = find(state, state.generation, rank);
  if (at == nullptr) return {};
  at->ending.process = process;
  AgentActions actions = {report(state, RankStarted{rank, process})};
  if (at->ending.stopped) {
    const bool at_once = std::exchange(at->killed, false);
    at->ending.stopped = false;
    add(actions, state, *at, stop(*at, at_once, state.grace, now));
  }
  return actions;
}

AgentActions rank_said(AgentState& state, int generation, int rank,
                       std::string_view line, Time now) {
  RankState* at = find(state, generation, rank);
  if (at == nullptr) return {};
  const RankState::Phase before = at->phase;
  const std::int64_t step = at->ending.step;
  AgentActions actions;
  add(actions, state, *at, hear(*at, line, state.times, now));
  if (before < RankState::Phase::kJoined &&
      at->phase >= RankState::Phase::kJoined) {
    actions.emplace_back(report(state, RankJoined{rank}));
  }
  // Heartbeats say how far all are.
  if (at->ending.step > step && !state.contact.on()) {
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
  std::optional<Time> first = state.heartbeat_at;
  const auto& lease = state.lease_until;
  if (lease && (!first || *lease < *first)) first = lease;
  for (const auto& entry : state.ranks) {
    const auto at = next_deadline(entry.second);
    if (at && (!first || *at < *first)) first = at;
  }
  return first;
}

AgentActions tick(AgentState& state, Time now) {
  AgentActions actions;
  for (auto& [number, rank] : state.ranks) {
    add(actions, state, rank, tick(rank, state.times, state.grace, now));
  }
  tick_contact(state, now, actions);
  return actions;
}

}  // namespace catena::launcher
