#include "launcher/job_state.h"

#include <algorithm>
#include <utility>

#include "launcher/contract.h"
#include "launcher/job_text.h"

namespace catena::launcher {
namespace {

constexpr std::chrono::seconds kBetweenNotes(10);
constexpr int kDiedOfSignal = 128;

template <class Body>
void send(const JobState& state, int agent, Body body, JobActions& actions) {
  actions.emplace_back(SendCommand{agent, {state.generation, std::move(body)}});
}

void end(JobState& state, JobPhase phase, int code, JobActions& actions) {
  state.phase = phase;
  state.exit_code = code;
  state.start_until = state.note_at = state.settle_until = state.save_until =
      state.stop_until = state.restart_at = std::nullopt;
  actions.emplace_back(Finish{});
}

/// Asked to end when there was nothing to save any more. Where there is a
/// checkpoint, the state is saved.
void end_as_asked(JobState& state, JobActions& actions) {
  if (!state.cancelled && state.checkpoint_step > 0) {
    end(state, JobPhase::kPreempted, kExitPreempted, actions);
  } else {
    end(state, JobPhase::kCancelled, kDiedOfSignal + state.stop_signal,
        actions);
  }
}

void wait_for_start(JobState& state, Time now) {
  state.since = now;
  state.start_until = now + state.options.start_timeout;
  state.note_at = now + kBetweenNotes;
}

void start_ranks(JobState& state, const std::string& rendezvous,
                 JobActions& actions) {
  state.phase = JobPhase::kRendezvous;
  state.started = true;
  for (int agent = 0; agent < agent_count(state); ++agent) {
    send(state, agent,
         StartGeneration{
             .world = world_of(state),
             .ranks = state.options.ranks.at(static_cast<std::size_t>(agent)),
             .rendezvous = rendezvous},
         actions);
  }
}

void begin_generation(JobState& state, Time now, JobActions& actions) {
  state.phase = JobPhase::kStarting;
  state.restart_at.reset();
  wait_for_start(state, now);
  if (world_of(state) == 1) {
    start_ranks(state, "", actions);
  } else {
    send(state, 0, OpenRendezvous{}, actions);
  }
}

void next_generation(JobState& state) {
  ++state.generation;
  state.started = false;
  state.empty.clear();
  state.joined.clear();
  state.endings.clear();
  state.trouble.reset();
}

/// Those that are not empty, and are to be.
void stop_agents(JobState& state, bool at_once, Time now, JobActions& actions) {
  state.settle_until.reset();
  state.start_until.reset();
  state.note_at.reset();
  state.stop_until =
      now + state.options.margin + (at_once ? Duration() : state.options.grace);
  for (int agent = 0; agent < agent_count(state); ++agent) {
    if (!state.empty.contains(agent)) {
      send(state, agent, Stop{at_once}, actions);
    }
  }
}

void fail_generation(JobState& state, Time now, JobActions& actions) {
  state.phase = JobPhase::kStopping;
  stop_agents(state, false, now, actions);
}

/// Says why the generation failed, and what that means.
void judge_failure(JobState& state, const Cause& cause, Time now,
                   JobActions& actions) {
  state.cause = cause;
  const Verdict verdict = judge(state.policy, cause, state.checkpoint_step);
  actions.emplace_back(Say{true, cause_text(cause)});
  if (!verdict.restart) {
    actions.emplace_back(Say{true, "not started again: " + verdict.why});
    end(state, JobPhase::kFailed, verdict.code, actions);
    return;
  }
  state.restarted.push_back(cause);
  next_generation(state);
  state.phase = JobPhase::kRestarting;
  state.restart_at = now + verdict.wait;
  actions.emplace_back(Say{false, restart_text(state, verdict.wait)});
  if (verdict.wait <= Duration()) begin_generation(state, now, actions);
}

/// Every agent is empty.
void conclude(JobState& state, Time now, JobActions& actions) {
  state.start_until = state.note_at = state.settle_until = state.save_until =
      state.stop_until = std::nullopt;
  const RankEnding* first = first_cause(state.endings);
  std::optional<Cause> cause = state.trouble;
  if (first != nullptr && (!cause || !first->stopped)) cause = cause_of(*first);
  if (state.stop_signal != 0 && (cause || !state.started)) {
    state.cause = cause;
    const bool steps =
        std::any_of(state.endings.begin(), state.endings.end(),
                    [](const RankEnding& e) { return e.step > 0; });
    if (state.phase == JobPhase::kSaving && steps) {
      // They were to be saved, and not all ranks did.
      return end(state, JobPhase::kCancelled, kDiedOfSignal + state.stop_signal,
                 actions);
    }
    return end_as_asked(state, actions);
  }
  if (cause) return judge_failure(state, *cause, now, actions);
  const bool stopped =
      std::any_of(state.endings.begin(), state.endings.end(),
                  [](const RankEnding& e) { return e.code == kExitPreempted; });
  end(state, stopped ? JobPhase::kPreempted : JobPhase::kSucceeded,
      stopped ? kExitPreempted : kExitSuccess, actions);
}

/// What it means, when ranks run, that one has ended.
void note_ending(JobState& state, const RankEnding& ending, Time now) {
  if (is_failure(ending)) {
    if (!state.settle_until) state.settle_until = now + state.options.settle;
  } else if (ending.code == kExitPreempted) {
    // It was asked by somebody else; all ranks agree on such a stop.
    state.phase = JobPhase::kSaving;
    state.save_until = now + state.options.grace;
  }
}

bool adds(JobState& state, const RankEnding& ending) {
  const bool known =
      std::any_of(state.endings.begin(), state.endings.end(),
                  [&](const RankEnding& e) { return e.rank == ending.rank; });
  if (!known) state.endings.push_back(ending);
  return !known;
}

class Receiver {
 public:
  Receiver(JobState& state, int agent, Time now)
      : state_(state), agent_(agent), now_(now) {}

  JobActions take() { return std::move(actions_); }

  void operator()(const AgentReady&) {
    state_.ready.insert(agent_);
    if (state_.phase == JobPhase::kStarting && state_.generation == 0 &&
        static_cast<int>(state_.ready.size()) == agent_count(state_)) {
      next_generation(state_);
      begin_generation(state_, now_, actions_);
    }
  }
  void operator()(const RendezvousOpen& open) {
    if (state_.phase != JobPhase::kStarting || state_.started) return;
    start_ranks(state_, open.endpoint, actions_);
  }
  void operator()(const RankStarted&) {}
  void operator()(const RankJoined& joined) {
    state_.joined.insert(joined.rank);
    if (state_.phase != JobPhase::kRendezvous ||
        static_cast<int>(state_.joined.size()) < world_of(state_)) {
      return;
    }
    state_.phase = JobPhase::kRunning;
    state_.start_until.reset();
    state_.note_at.reset();
  }
  void operator()(const RankStepped& stepped) {
    state_.step = std::max(state_.step, stepped.step);
  }
  void operator()(const RankExited& exited) {
    if (!adds(state_, exited.ending)) return;
    if (state_.phase == JobPhase::kRendezvous ||
        state_.phase == JobPhase::kRunning) {
      note_ending(state_, exited.ending, now_);
    }
  }
  void operator()(const GenerationEmpty& empty) {
    if (!state_.empty.insert(agent_).second) return;
    for (const RankEnding& ending : empty.endings) adds(state_, ending);
    if (static_cast<int>(state_.empty.size()) == agent_count(state_)) {
      conclude(state_, now_, actions_);
    }
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
  if (state.generation > 0) return fail_generation(state, now, actions);
  state.cause = state.trouble;
  actions.emplace_back(Say{true, state.trouble->text});
  end(state, JobPhase::kFailed, kExitNotAssembled, actions);
}

bool passed(const std::optional<Time>& deadline, Time now) {
  return deadline && *deadline <= now;
}

}  // namespace

bool is_end(JobPhase phase) { return phase >= JobPhase::kSucceeded; }

JobActions begin(JobState& state, Time now) {
  if (state.phase != JobPhase::kNew) return {};
  state.phase = JobPhase::kStarting;
  state.policy.checkpoint_step = state.checkpoint_step;
  wait_for_start(state, now);
  return {};
}

JobActions receive(JobState& state, const Report& report, Time now) {
  const bool of_none = std::holds_alternative<AgentReady>(report.body);
  if (is_end(state.phase) ||
      (!of_none && report.generation != state.generation)) {
    ++state.stale;
    return {};
  }
  Receiver receiver(state, report.agent, now);
  std::visit(receiver, report.body);
  return receiver.take();
}

JobActions stop_requested(JobState& state, int signal, Time now) {
  JobActions actions;
  if (is_end(state.phase)) return actions;
  const bool second = state.stop_signal != 0;
  if (!second) state.stop_signal = signal;
  state.cancelled = second;
  if (!state.started) {
    // No rank runs: an agent that listens already stops when told so.
    if (state.generation > 0) stop_agents(state, true, now, actions);
    end_as_asked(state, actions);
  } else if (second) {
    state.phase = JobPhase::kStopping;
    stop_agents(state, true, now, actions);
  } else if (state.phase != JobPhase::kStopping) {
    const bool failed = state.settle_until.has_value();
    state.phase = failed ? JobPhase::kStopping : JobPhase::kSaving;
    state.save_until.reset();
    stop_agents(state, false, now, actions);
  }
  return actions;
}

void checkpoint_seen(JobState& state, std::int64_t step) {
  state.checkpoint_step = step;
}

std::optional<Time> next_deadline(const JobState& state) {
  std::optional<Time> first;
  for (const auto& at :
       {state.start_until, state.note_at, state.settle_until, state.save_until,
        state.stop_until, state.restart_at}) {
    if (at && (!first || *at < *first)) first = at;
  }
  return first;
}

JobActions tick(JobState& state, Time now) {
  JobActions actions;
  if (passed(state.stop_until, now)) {
    stop_too_slow(state, actions);
  } else if (passed(state.restart_at, now)) {
    begin_generation(state, now, actions);
  } else if (passed(state.start_until, now)) {
    start_too_slow(state, now, actions);
  } else if (passed(state.settle_until, now) || passed(state.save_until, now)) {
    state.save_until.reset();
    fail_generation(state, now, actions);
  } else if (passed(state.note_at, now)) {
    state.note_at = now + kBetweenNotes;
    actions.emplace_back(Say{false, waiting_text(state, now - state.since)});
  }
  return actions;
}

}  // namespace catena::launcher
