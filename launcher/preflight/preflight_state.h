#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "launcher/messages.h"
#include "launcher/preflight/judgement.h"
#include "launcher/preflight/link_schedule.h"

namespace catena::launcher {

struct PreflightOptions {
  std::vector<std::string> hosts = {};  ///< of each agent
  std::vector<int> ranks = {};          ///< that share each one's memory
  int enough = 1;                       ///< agents without whom there is no job
  Duration patience = {};               ///< for all agents to come
  Duration probe_time = {};             ///< for the answers to a probe
  ProbeMachine machine = {};
  bool compare = true;      ///< agents are on machines of their own
  std::string ticket = {};  ///< by which agents know each other
};

/// The questions before the first generation, of all agents at once, one after
/// another: a pure state machine, as JobState is. It waits for agents, then
/// for the answers to each question, and no longer than the options say; who
/// has not answered is asked nothing more, and named. Where there is nothing to
/// compare, as there is one agent, or all are of one machine, that is all.
/// Else their speed is asked for. Who seems slow is asked again, five times at
/// most: the best counts, so that nobody is taken for slow who was held up for
/// a moment, or by another one. Then each agent listens, and pairs of them
/// measure the way between them: at a time every agent has one partner, eight
/// partners at most. Pairs that do not reach each other try once more; those of
/// who seems slow, five times at most.
enum class PreflightStage {
  kGather,
  kClock,
  kMachine,
  kCompute,
  kListen,
  kLink,
  kDone
};
[[nodiscard]] const char* name_of(PreflightStage stage);  ///< "compute"

struct PreflightState {
  explicit PreflightState(PreflightOptions preflight_options);

  PreflightOptions options;
  PreflightStage stage = PreflightStage::kGather;
  std::vector<NodeFacts> nodes;
  std::vector<LinkFound> links = {};      ///< of each pair once
  std::map<int, ListenFacts> doors = {};  ///< of agents that listen
  int link_rounds = 0;                    ///< how often all pairs were asked
  std::vector<LinkRound> meetings = {};   ///< that are still to be
  LinkRound meeting = {};                 ///< that is under way
  std::set<int> there = {};               ///< agents
  std::map<int, std::string> gone = {};   ///< agents that ended, and why
  std::set<int> asked = {};               ///< who is to answer
  int rounds = 0;                         ///< of this stage
  std::uint32_t number = 0;               ///< of the question
  Time asked_at = {};
  std::int64_t asked_wall = 0;
  std::optional<Time> deadline = {}, note_at = {};
};

/// Both clocks of the launcher; `wall` in microseconds since 1970.
struct Moment {
  Time now;
  std::int64_t wall = 0;
};

// What is to be done.

struct AskProbe {
  int agent;
  Probe probe;
};
/// For people.
struct SayWaiting {
  std::string text;
};
/// No more is to come: state.nodes is what there is. Once.
struct PreflightDone {};
using PreflightAction = std::variant<AskProbe, SayWaiting, PreflightDone>;
using PreflightActions = std::vector<PreflightAction>;

// What happens.

[[nodiscard]] PreflightActions begin(PreflightState& state, Moment now);
/// An agent has connected.
[[nodiscard]] PreflightActions came(PreflightState& state, int agent,
                                    Moment now);
/// Nothing more is heard of it.
[[nodiscard]] PreflightActions went(PreflightState& state, int agent,
                                    const std::string& why, Moment now);
[[nodiscard]] PreflightActions answered(PreflightState& state, int agent,
                                        const Probed& probed, Moment now);
[[nodiscard]] PreflightActions tick(PreflightState& state, Moment now);
[[nodiscard]] std::optional<Time> next_deadline(const PreflightState& state);
/// Of whom it waits.
struct Missing {
  std::size_t agents = 0;
  std::string names = {};  ///< "1 (node7), 3 (node9)", eight at most
};
[[nodiscard]] Missing missing(const PreflightState& state);
/// "preflight waits for 2 of 4 agents (machine): 1 (node7), 3 (node9); 10 s of
/// 30 s".
[[nodiscard]] std::string waiting_text(const PreflightState& state, Time now);

}  // namespace catena::launcher
