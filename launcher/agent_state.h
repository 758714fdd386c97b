#pragma once

#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "launcher/contact.h"
#include "launcher/messages.h"
#include "launcher/rank_state.h"

namespace catena::launcher {

/// One agent, which owns the ranks of a machine: a pure state machine, as
/// RankState is.
///
///   READY -> ACTIVE(g) -> DRAINING(g) -> READY -> ...
///
/// Invariants: ranks of one generation at a time; `floor` never falls, and
/// what is of a generation at or below it is never started (the fence);
/// GenerationEmpty is said once a generation, when every process of it has been
/// reaped, and each of its ranks ends once. A command of a later generation, or
/// a lease in which none came, ends what runs.
struct AgentState {
  enum class Phase { kReady, kActive, kDraining };

  /// `section_timeout`: of all sections; 0: as they are learned.
  AgentState(int agent_number, Duration grace_period,
             Duration section_timeout = {}, ContactRules contact_rules = {})
      : agent(agent_number),
        grace(grace_period),
        times{.fixed = section_timeout},
        contact(contact_rules) {}

  int agent;
  Duration grace;
  Phase phase = Phase::kReady;
  int generation = 0;  ///< of `ranks`
  int floor = 0;       ///< generations up to this one are over
  std::map<int, RankState> ranks = {};
  SectionTimes times;
  int opened = 0;                      ///< generation that `endpoint` is of
  std::string endpoint = {};           ///< "": it is being opened
  std::vector<RankEnding> ended = {};  ///< of `generation`, once it is empty

  std::uint64_t incarnation = 0;  ///< see Report
  ContactRules contact;
  std::optional<Time> heartbeat_at = {}, lease_until = {};
  std::int64_t stale = 0;  ///< commands that were dropped
};

// What is to be done.

/// Listen for rank 0; then listener_opened().
struct OpenListener {
  int generation;
};
/// Then rank_spawned(), or rank_reaped() where it cannot be started.
struct SpawnRank {
  int generation, rank, world;
  int local_rank, local_world;  ///< among those of this agent
  int node, nodes;              ///< as StartGeneration says
  std::string rendezvous;
};
struct SignalRank {
  int rank, process, signal;
};
/// Look at the process, and report `suspected` with what is seen added to its
/// text. With kWarned and kAsked, have it write its stack: SIGUSR2.
struct InspectRank {
  int generation, process;
  RankSuspected suspected;
};
using AgentAction =
    std::variant<OpenListener, SpawnRank, SignalRank, InspectRank, Report>;
using AgentActions = std::vector<AgentAction>;

// What happens.

/// It is in contact with the coordinator from now on; needed where
/// contact.on().
void begin(AgentState& state, Time now);
[[nodiscard]] AgentActions receive(AgentState& state, const Command& command,
                                   Time now);
[[nodiscard]] AgentActions listener_opened(AgentState& state, int generation,
                                           const std::string& endpoint);
[[nodiscard]] AgentActions rank_spawned(AgentState& state, int rank,
                                        int process, Time now);
[[nodiscard]] AgentActions rank_said(AgentState& state, int generation,
                                     int rank, std::string_view line, Time now);
[[nodiscard]] AgentActions rank_reaped(AgentState& state, int generation,
                                       int rank, int code, int signal,
                                       std::string last_words);
[[nodiscard]] std::optional<Time> next_deadline(const AgentState& state);
[[nodiscard]] AgentActions tick(AgentState& state, Time now);

}  // namespace catena::launcher
