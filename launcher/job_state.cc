#include "launcher/job_state.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "launcher/contract.h"
#include "launcher/job_layout.h"
#include "launcher/job_moves.h"
#include "launcher/job_text.h"

namespace catena::launcher {
namespace {

/// What it means, when ranks run, that one has ended.
void note_ending(JobState& state, const RankEnding& ending, Time now,
                 JobActions& actions) {
  if (is_failure(ending)) {
    if (state.settle_until) return;
    state.settle_until = now + state.options.settle;
    if (state.world > 1) actions.emplace_back(Say{false, failed_text(ending)});
  } else if (ending.code == kExitPreempted) {
    // It was asked by somebody else; all ranks agree on such a stop.
    enter(state, JobPhase::kSaving, actions);
    state.save_until = now + state.options.grace;
  }
}

bool adds(JobState& state, const RankEnding& ending, JobActions& actions) {
  if (!state.ended.insert(ending.rank).second) return false;
  state.step = std::max(state.step, ending.step);
  state.endings.push_back(ending);
  actions.emplace_back(RankEnded{state.generation, ending});
  return true;
}

class Receiver {
 public:
  Receiver(JobState& state, int agent, Time now)
      : state_(state), agent_(agent), now_(now) {}

  JobActions take() { return std::move(actions_); }

  void operator()(const AgentReady&) { note_ready(); }
  void was_started_again() {
    lose_agent(state_, agent_, "was started again", now_, actions_);
  }
  void operator()(const Heartbeat& beat) {
    for (const int rank : beat.joined) (*this)(RankJoined{rank});
    (*this)(RankStepped{-1, beat.step});
    for (const RankEnding& ending : beat.endings) (*this)(RankExited{ending});
    if (beat.empty) (*this)(GenerationEmpty{});
  }
  /// It runs nothing that is older than this generation.
  void note_ready() {
    state_.absences.erase(agent_);
    if (state_.ready.insert(agent_).second) {
      start_if_ready(state_, now_, actions_);
    }
  }
  void operator()(const RendezvousOpen& open) {
    if (state_.phase != JobPhase::kStarting || state_.started ||
        agent_ != first_agent(state_) || !all_ready(state_)) {
      return;
    }
    start_ranks(state_, open.endpoint, actions_);
  }
  void operator()(const RankStarted&) {}
  void operator()(const RankJoined& joined) {
    state_.joined.insert(joined.rank);
    if (state_.phase != JobPhase::kRendezvous ||
        static_cast<int>(state_.joined.size()) < state_.world) {
      return;
    }
    enter(state_, JobPhase::kRunning, actions_);
    state_.start_until.reset();
    state_.note_at.reset();
  }
  void operator()(const RankStepped& stepped) {
    state_.step = std::max(state_.step, stepped.step);
  }
  void operator()(const RankSuspected& suspected) {
    using Verdict = RankSuspected::Verdict;
    const bool bad = suspected.verdict == Verdict::kWarned ||
                     suspected.verdict == Verdict::kHung;
    actions_.emplace_back(Say{bad, suspected_text(suspected)});
  }
  void operator()(const RankExited& exited) {
    if (!adds(state_, exited.ending, actions_)) return;
    if (state_.phase == JobPhase::kRendezvous ||
        state_.phase == JobPhase::kRunning) {
      note_ending(state_, exited.ending, now_, actions_);
    }
  }
  void operator()(const GenerationEmpty& empty) {
    for (const RankEnding& ending : empty.endings) {
      adds(state_, ending, actions_);
    }
    state_.ready.insert(agent_);
    leave_empty(state_, agent_, now_, actions_);
  }

 private:
  JobState& state_;
  int agent_;
  Time now_;
  JobActions actions_;
};

void stop_too_slow(JobState& state, JobActions& actions) {
  actions.emplace_back(Say{true, not_empty_text(state)});
  end(state, JobPhase::kFailed, kExitInternal, actions);
}

void start_too_slow(JobState& state, Time now, JobActions& actions) {
  state.trouble =
      Cause{.code = kExitNotAssembled, .text = too_late_text(state)};
  // One that waits for agents has told nobody anything.
  if (state.generation > 0 && (state.started || all_ready(state))) {
    return fail_generation(state, now, actions);
  }
  state.cause = state.trouble;
  actions.emplace_back(Say{true, state.trouble->text});
  end(state, JobPhase::kFailed, kExitNotAssembled, actions);
}

bool is_news(JobState& state, const Report& report) {
  if (std::holds_alternative<AgentReady>(report.body)) return true;
  if (report.generation == 0 || report.generation != state.generation) {
    return false;
  }
  // It may say where ranks meet and not have heard that they are to start.
  if (!std::holds_alternative<RendezvousOpen>(report.body)) {
    state.known.insert(report.agent);
  }
  return true;
}

void stop_job(JobState& state, int code, Time now, JobActions& actions) {
  const bool second = state.stop_code != 0;
  if (!second) state.stop_code = code;
  state.cancelled = second;
  if (!state.started) {
    // No rank runs: an agent that listens already stops when told so.
    if (state.generation > 0) stop_agents(state, true, now, actions);
    end_as_asked(state, actions);
  } else if (second) {
    enter(state, JobPhase::kStopping, actions);
    stop_agents(state, true, now, actions);
  } else if (state.phase != JobPhase::kStopping) {
    const bool failed = state.settle_until.has_value();
    enter(state, failed ? JobPhase::kStopping : JobPhase::kSaving, actions);
    state.save_until.reset();
    stop_agents(state, false, now, actions);
  }
}

void end_in_time(JobState& state, Time now, JobActions& actions) {
  state.job_until.reset();
  if (state.stop_code != 0) return;
  actions.emplace_back(Say{false, time_limit_text(state)});
  stop_job(state, kExitTimeLimit, now, actions);
}

/// Those of whom nothing is known to be wrong may be enough.
bool enough_without_silent(const JobState& state, Time now) {
  if (!is_elastic(state)) return false;
  int left = 0;
  for (int agent = 0; agent < agent_count(state); ++agent) {
    if (!state.contacts.silent(agent, now)) ++left;
  }
  return left >= state.options.least_agents;
}

bool passed(const std::optional<Time>& deadline, Time now) {
  return deadline && *deadline <= now;
}

}  // namespace

bool is_end(JobPhase phase) { return phase >= JobPhase::kSucceeded; }

JobActions begin(JobState& state, Time now, std::optional<Time> launched) {
  JobActions actions;
  if (state.phase != JobPhase::kNew) return actions;
  enter(state, JobPhase::kStarting, actions);
  state.policy.checkpoint_step = state.checkpoint_step;
  wait_for_start(state, now);
  if (state.options.contact.on()) state.repeat_at = now;
  if (state.options.time_limit > Duration()) {
    state.job_until = launched.value_or(now) + state.options.time_limit;
  }
  return actions;
}

JobActions receive(JobState& state, const Report& report, Time now) {
  if (is_end(state.phase)) {
    ++state.stale;
    return {};
  }
  using News = Contacts::News;
  const News news = state.contacts.heard(report.agent, report.incarnation, now);
  Receiver receiver(state, report.agent, now);
  if (news == News::kAnother) receiver.was_started_again();
  if (news == News::kFormer || is_end(state.phase)) {
    ++state.stale;
  } else if (is_news(state, report)) {
    std::visit(receiver, report.body);
  } else {
    ++state.stale;
    const auto* beat = std::get_if<Heartbeat>(&report.body);
    const bool older =
        state.generation == 0 || report.generation < state.generation;
    if (beat != nullptr && beat->empty && older) receiver.note_ready();
  }
  return without_silent(state, receiver.take(), now);
}

JobActions agent_gone(JobState& state, int agent, const std::string& why,
                      Time now) {
  JobActions actions;
  if (is_end(state.phase) || !state.contacts.hang_up(agent, now)) {
    return actions;
  }
  const std::string what = fmt::format("is gone: {}", why);
  if (state.generation == 0 && !enough_without_silent(state, now)) {
    state.cause = Cause{.code = kExitNotAssembled,
                        .text = agent_text(state, agent, what)};
    actions.emplace_back(Say{true, state.cause->text});
    end(state, JobPhase::kFailed, kExitNotAssembled, actions);
    return actions;
  }
  state.ready.erase(agent);
  actions.emplace_back(Say{false, agent_text(state, agent, what)});
  miss_agent(state, agent, what, now, actions);
  return without_silent(state, std::move(actions), now);
}

JobActions stop_requested(JobState& state, int signal, Time now) {
  constexpr int kDiedOfSignal = 128;
  JobActions actions;
  if (is_end(state.phase)) return actions;
  stop_job(state, kDiedOfSignal + signal, now, actions);
  return without_silent(state, std::move(actions), now);
}

JobActions save_requested(const JobState& state, Time now) {
  JobActions actions;
  if (state.phase != JobPhase::kRunning) {
    actions.emplace_back(Say{false, fmt::format("{}: there is nothing to save",
                                                name_of(state.phase))});
    return actions;
  }
  for (int agent = 0; agent < agent_count(state); ++agent) {
    if (takes_part(state, agent)) send(state, agent, Save{}, actions);
  }
  return without_silent(state, std::move(actions), now);
}

JobActions inspect_requested(const JobState& state, Time now) {
  JobActions actions;
  actions.emplace_back(Say{false, status_text(state)});
  if (!state.started || is_end(state.phase)) return actions;
  for (int agent = 0; agent < agent_count(state); ++agent) {
    if (takes_part(state, agent)) send(state, agent, Inspect{}, actions);
  }
  return without_silent(state, std::move(actions), now);
}

void checkpoint_seen(JobState& state, std::int64_t step) {
  state.checkpoint_step = step;
}

std::optional<Time> next_deadline(const JobState& state) {
  std::optional<Time> first;
  for (const auto& at :
       {state.start_until, state.note_at, state.settle_until, state.save_until,
        state.stop_until, state.restart_at, state.repeat_at, state.rejoin_until,
        state.job_until}) {
    if (at && (!first || *at < *first)) first = at;
  }
  return first;
}

JobActions tick(JobState& state, Time now) {
  JobActions actions;
  if (passed(state.stop_until, now)) {
    stop_too_slow(state, actions);
  } else if (passed(state.job_until, now)) {
    end_in_time(state, now, actions);
  } else if (passed(state.restart_at, now)) {
    begin_generation(state, now, actions);
  } else if (passed(state.start_until, now)) {
    start_too_slow(state, now, actions);
  } else if (passed(state.settle_until, now) || passed(state.save_until, now)) {
    state.save_until.reset();
    fail_generation(state, now, actions);
  } else if (passed(state.rejoin_until, now)) {
    state.rejoin_until.reset();
    start_if_ready(state, now, actions);
  } else if (passed(state.note_at, now)) {
    state.note_at = now + kBetweenNotes;
    actions.emplace_back(Say{false, waiting_text(state, now - state.since)});
  } else if (passed(state.repeat_at, now)) {
    keep_contact(state, now, actions);
  }
  return without_silent(state, std::move(actions), now);
}

}  // namespace catena::launcher
