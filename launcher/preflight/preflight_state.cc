#include "launcher/preflight/preflight_state.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace catena::launcher {
namespace {

constexpr std::chrono::seconds kBetweenNotes(10);
constexpr int kMostRounds = 5;
constexpr std::size_t kMostMeetings = 8;

double seconds(Duration duration) {
  return std::chrono::duration<double>(duration).count();
}

int agent_count(const PreflightState& state) {
  return static_cast<int>(state.options.hosts.size());
}

bool may_be_asked(const PreflightState& state, int agent) {
  return state.there.contains(agent) &&
         state.nodes.at(static_cast<std::size_t>(agent)).silent.empty();
}

/// Of those who may be asked again.
std::set<int> who_seems_slow(const PreflightState& state,
                             std::string_view probe) {
  std::set<int> agents;
  for (const Finding& finding :
       judge(state.nodes, state.links, JobNeeds{}, nullptr)) {
    if (finding.severity == Severity::kSlow && finding.probe == probe &&
        may_be_asked(state, finding.node)) {
      agents.insert(finding.node);
    }
  }
  return agents;
}

/// Who is to look again at the way between them.
LinkRound pairs_again(const PreflightState& state) {
  LinkRound pairs;
  if (state.link_rounds >= kMostRounds) return pairs;
  const std::set<int> slow = who_seems_slow(state, "bandwidth");
  for (const LinkFound& link : state.links) {
    const bool failed = !link.failed.empty() && state.link_rounds == 1;
    if (failed || slow.contains(link.from) || slow.contains(link.to)) {
      pairs.emplace_back(link.from, link.to);
    }
  }
  return pairs;
}

PreflightStage after(const PreflightState& state) {
  switch (state.stage) {
    case PreflightStage::kGather:
      return PreflightStage::kClock;
    case PreflightStage::kClock:
      return PreflightStage::kMachine;
    case PreflightStage::kMachine:
      return state.options.compare && agent_count(state) > 1
                 ? PreflightStage::kCompute
                 : PreflightStage::kDone;
    case PreflightStage::kCompute:
      return state.rounds < kMostRounds &&
                     !who_seems_slow(state, "compute").empty()
                 ? PreflightStage::kCompute
                 : PreflightStage::kListen;
    case PreflightStage::kListen:
      return PreflightStage::kLink;
    case PreflightStage::kLink:
      return state.meetings.empty() && pairs_again(state).empty()
                 ? PreflightStage::kDone
                 : PreflightStage::kLink;
    case PreflightStage::kDone:
      break;
  }
  return PreflightStage::kDone;
}

int partner_of(const PreflightState& state, int agent) {
  const auto at =
      std::find_if(state.meeting.begin(), state.meeting.end(),
                   [&](const auto& pair) { return pair.first == agent; });
  return at->second;
}

ProbeLink link_to(const PreflightState& state, int agent) {
  const ListenFacts& door = state.doors.at(agent);
  return {.address = door.address,
          .port = door.port,
          .ticket = state.options.ticket};
}

decltype(Probe::body) question(const PreflightState& state, int agent) {
  switch (state.stage) {
    case PreflightStage::kMachine:
      return state.options.machine;
    case PreflightStage::kCompute:
      return ProbeCompute{};
    case PreflightStage::kListen:
      return ProbeListen{state.options.ticket};
    case PreflightStage::kLink:
      return link_to(state, partner_of(state, agent));
    case PreflightStage::kGather:
    case PreflightStage::kClock:
    case PreflightStage::kDone:
      break;
  }
  return ProbeClock{};
}

void finish(PreflightState& state, PreflightActions& actions) {
  state.stage = PreflightStage::kDone;
  // Who did not reach one that has ended is not to blame.
  std::erase_if(state.links, [&](const LinkFound& link) {
    return !link.failed.empty() &&
           (state.gone.contains(link.from) || state.gone.contains(link.to));
  });
  state.asked.clear();
  state.deadline = state.note_at = std::nullopt;
  actions.emplace_back(PreflightDone{});
}

/// Of those who listen, and of their pairs in turn; then of those again that
/// did not get on well.
void arrange_meetings(PreflightState& state) {
  if (state.link_rounds > 0) {
    state.meetings = link_schedule(pairs_again(state));
  } else {
    std::vector<int> agents;
    for (const auto& [agent, door] : state.doors) {
      if (may_be_asked(state, agent)) agents.push_back(agent);
    }
    state.meetings = link_schedule(agents, kMostMeetings);
  }
  ++state.link_rounds;
}

/// Who is asked in this stage.
std::set<int> whom(PreflightState& state) {
  std::set<int> agents;
  if (state.stage != PreflightStage::kLink) {
    const bool again =
        state.stage == PreflightStage::kCompute && state.rounds > 1;
    for (const int agent :
         again ? who_seems_slow(state, "compute") : state.there) {
      if (may_be_asked(state, agent)) agents.insert(agent);
    }
    return agents;
  }
  while (agents.empty() && !state.meetings.empty()) {
    state.meeting = state.meetings.front();
    state.meetings.erase(state.meetings.begin());
    for (const auto& [from, to] : state.meeting) {
      if (may_be_asked(state, from) && may_be_asked(state, to)) {
        agents.insert(from);
      }
    }
  }
  return agents;
}

/// Asks the next question of all who have answered so far.
void go_on(PreflightState& state, Moment now, PreflightActions& actions) {
  const PreflightStage next = after(state);
  state.rounds = next == state.stage ? state.rounds + 1 : 1;
  if (next == PreflightStage::kLink && state.meetings.empty()) {
    arrange_meetings(state);
  }
  state.stage = next;
  state.asked = whom(state);
  if (state.stage == PreflightStage::kDone || state.asked.empty()) {
    return finish(state, actions);
  }
  ++state.number;
  state.asked_at = now.now;
  state.asked_wall = now.wall;
  state.deadline = now.now + state.options.probe_time;
  state.note_at = now.now + kBetweenNotes;
  for (const int agent : state.asked) {
    actions.emplace_back(
        AskProbe{agent, Probe{state.number, question(state, agent)}});
  }
}

/// Goes on where nobody is waited for any more.
void go_on_if_complete(PreflightState& state, Moment now,
                       PreflightActions& actions) {
  if (state.stage == PreflightStage::kDone) return;
  const int left = agent_count(state) - static_cast<int>(state.gone.size());
  if (left < state.options.enough) return finish(state, actions);
  const bool complete = state.stage == PreflightStage::kGather
                            ? static_cast<int>(state.there.size()) == left
                            : state.asked.empty();
  if (complete) go_on(state, now, actions);
}

class Taker {
 public:
  Taker(PreflightState& state, int agent, Moment now)
      : state_(state),
        agent_(agent),
        node_(state.nodes.at(static_cast<std::size_t>(agent))),
        now_(now) {}

  void operator()(const ProbeFailed& failed) {
    if (state_.stage == PreflightStage::kLink) {
      return add_link({.failed = failed.why});
    }
    node_.silent = fmt::format("its {} probe failed: {}", name_of(state_.stage),
                               failed.why);
  }
  void operator()(const ClockFacts& clock) {
    constexpr double kMicrosecond = 1e-6;
    const double trip = seconds(now_.now - state_.asked_at);
    const auto ahead =
        static_cast<double>(clock.microseconds - state_.asked_wall);
    node_.clock_ahead_seconds = ahead * kMicrosecond - trip / 2;
    node_.round_trip_seconds = trip;
  }
  void operator()(const MachineFacts& machine) { node_.machine = machine; }
  void operator()(const ComputeFacts& compute) {
    node_.flops = std::max(node_.flops.value_or(0), compute.flops);
  }
  void operator()(const ListenFacts& door) { state_.doors[agent_] = door; }
  void operator()(const LinkFacts& link) {
    if (state_.stage == PreflightStage::kLink) add_link({.facts = link});
  }

  void add_link(LinkFound link) {
    link.from = agent_;
    link.to = partner_of(state_, agent_);
    for (LinkFound& before : state_.links) {
      if (before.from == link.from && before.to == link.to) {
        return keep_better(before, link);
      }
    }
    state_.links.push_back(std::move(link));
  }

 private:
  static void keep_better(LinkFound& before, const LinkFound& now) {
    const bool failed_before = !before.failed.empty();
    if (!now.failed.empty() && (now.late || !failed_before)) return;
    if (failed_before) {
      before = now;
      return;
    }
    LinkFacts& facts = before.facts;
    facts.latency_seconds =
        std::min(facts.latency_seconds, now.facts.latency_seconds);
    facts.bytes_per_second =
        std::max(facts.bytes_per_second, now.facts.bytes_per_second);
  }

  PreflightState& state_;
  int agent_;
  NodeFacts& node_;
  Moment now_;
};

}  // namespace

PreflightState::PreflightState(PreflightOptions preflight_options)
    : options(std::move(preflight_options)) {
  for (std::size_t i = 0; i < options.hosts.size(); ++i) {
    nodes.push_back({.host = options.hosts[i], .ranks = options.ranks.at(i)});
  }
}

PreflightActions begin(PreflightState& state, Moment now) {
  state.asked_at = now.now;
  state.deadline = now.now + state.options.patience;
  state.note_at = now.now + kBetweenNotes;
  return {};
}

PreflightActions came(PreflightState& state, int agent, Moment now) {
  PreflightActions actions;
  if (state.stage != PreflightStage::kGather || state.gone.contains(agent)) {
    return actions;
  }
  state.there.insert(agent);
  go_on_if_complete(state, now, actions);
  return actions;
}

PreflightActions went(PreflightState& state, int agent, const std::string& why,
                      Moment now) {
  PreflightActions actions;
  if (state.stage == PreflightStage::kDone) return actions;
  state.there.erase(agent);
  state.asked.erase(agent);
  state.gone.emplace(agent, why);
  go_on_if_complete(state, now, actions);
  return actions;
}

PreflightActions answered(PreflightState& state, int agent,
                          const Probed& probed, Moment now) {
  PreflightActions actions;
  if (probed.number != state.number || state.asked.erase(agent) == 0) {
    return actions;
  }
  std::visit(Taker(state, agent, now), probed.body);
  go_on_if_complete(state, now, actions);
  return actions;
}

namespace {

/// It has not answered in time; of two who meet, nobody knows which.
void miss(PreflightState& state, int agent, Moment now) {
  const double time = seconds(state.options.probe_time);
  if (state.stage == PreflightStage::kLink) {
    return Taker(state, agent, now)
        .add_link({.failed = fmt::format("no answer in {:.3g} s", time),
                   .late = true});
  }
  NodeFacts& node = state.nodes.at(static_cast<std::size_t>(agent));
  node.silent = fmt::format("it did not answer the {} probe in {:.3g} s",
                            name_of(state.stage), time);
  node.late = true;
}

}  // namespace

PreflightActions tick(PreflightState& state, Moment now) {
  PreflightActions actions;
  if (state.deadline && *state.deadline <= now.now) {
    for (const int agent : state.asked) miss(state, agent, now);
    const bool too_few =
        state.stage == PreflightStage::kGather &&
        static_cast<int>(state.there.size()) < state.options.enough;
    if (too_few) {
      finish(state, actions);
    } else {
      go_on(state, now, actions);
    }
  } else if (state.note_at && *state.note_at <= now.now) {
    state.note_at = now.now + kBetweenNotes;
    actions.emplace_back(SayWaiting{waiting_text(state, now.now)});
  }
  return actions;
}

std::optional<Time> next_deadline(const PreflightState& state) {
  if (!state.deadline || !state.note_at) return state.deadline;
  return std::min(*state.deadline, *state.note_at);
}

}  // namespace catena::launcher
