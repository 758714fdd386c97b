#include "launcher/job_moves.h"

#include <algorithm>
#include <utility>

#include "launcher/contract.h"
#include "launcher/job_layout.h"
#include "launcher/job_text.h"

namespace catena::launcher {

void enter(JobState& state, JobPhase phase, JobActions& actions) {
  if (std::exchange(state.phase, phase) == phase) return;
  actions.emplace_back(Moved{phase, state.generation});
}

void end(JobState& state, JobPhase phase, int code, JobActions& actions) {
  state.exit_code = code;
  enter(state, phase, actions);
  state.start_until = state.note_at = state.settle_until = state.save_until =
      state.stop_until = state.restart_at = state.repeat_at =
          state.rejoin_until = state.job_until = std::nullopt;
  actions.emplace_back(Finish{});
}

void end_as_asked(JobState& state, JobActions& actions) {
  if (!state.cancelled && state.checkpoint_step > 0) {
    end(state, JobPhase::kPreempted, kExitPreempted, actions);
  } else {
    end(state, JobPhase::kCancelled, state.stop_code, actions);
  }
}

void wait_for_start(JobState& state, Time now) {
  state.since = now;
  state.start_until = now + state.options.start_timeout;
  state.note_at = now + kBetweenNotes;
  if (is_elastic(state)) state.rejoin_until = now + state.options.rejoin;
}

namespace {

void send_start(const JobState& state, int agent, JobActions& actions) {
  const auto at = static_cast<std::size_t>(agent);
  send(state, agent,
       StartGeneration{.world = state.world,
                       .ranks = state.ranks.at(at),
                       .rendezvous = state.rendezvous,
                       .node = state.nodes.at(at),
                       .nodes = state.agents},
       actions);
}

}  // namespace

void start_ranks(JobState& state, const std::string& rendezvous,
                 JobActions& actions) {
  enter(state, JobPhase::kRendezvous, actions);
  state.started = true;
  state.rendezvous = rendezvous;
  state.rejoin_until.reset();
  for (int agent = 0; agent < agent_count(state); ++agent) {
    if (takes_part(state, agent)) send_start(state, agent, actions);
  }
}

void start_if_ready(JobState& state, Time now, JobActions& actions) {
  if (state.phase != JobPhase::kStarting || state.started ||
      !lay_generation(state)) {
    return;
  }
  if (state.generation == 0) {
    next_generation(state);
    state.since = now;
    state.start_until = now + state.options.start_timeout;
  }
  state.laid = true;
  if (static_cast<int>(state.ready.size()) < agent_count(state)) {
    actions.emplace_back(Say{false, fewer_text(state)});
  }
  if (state.world == 1) {
    start_ranks(state, "", actions);
  } else {
    send(state, first_agent(state), OpenRendezvous{}, actions);
  }
}

void begin_generation(JobState& state, Time now, JobActions& actions) {
  enter(state, JobPhase::kStarting, actions);
  state.restart_at.reset();
  wait_for_start(state, now);
  start_if_ready(state, now, actions);
}

void next_generation(JobState& state) {
  ++state.generation;
  state.laid = state.started = state.at_once = false;
  state.known.clear();
  state.empty.clear();
  state.joined.clear();
  state.endings.clear();
  state.ended.clear();
  state.trouble.reset();
}

void stop_agents(JobState& state, bool at_once, Time now, JobActions& actions) {
  state.settle_until.reset();
  state.start_until.reset();
  state.note_at.reset();
  state.rejoin_until.reset();
  state.save_until.reset();
  state.at_once |= at_once;
  const ContactRules& contact = state.options.contact;
  state.stop_until = now + state.options.margin +
                     (at_once ? Duration() : state.options.grace) +
                     (contact.on() ? contact.until_lost() : Duration());
  for (int agent = 0; agent < agent_count(state); ++agent) {
    if (takes_part(state, agent) && !state.empty.contains(agent)) {
      send(state, agent, Stop{at_once}, actions);
    }
  }
}

void fail_generation(JobState& state, Time now, JobActions& actions) {
  enter(state, JobPhase::kStopping, actions);
  stop_agents(state, false, now, actions);
}

namespace {

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
  enter(state, JobPhase::kRestarting, actions);
  state.restart_at = now + verdict.wait;
  actions.emplace_back(Say{false, restart_text(state, verdict.wait)});
  if (verdict.wait <= Duration()) begin_generation(state, now, actions);
}

/// Every agent is empty.
void conclude(JobState& state, Time now, JobActions& actions) {
  state.start_until = state.note_at = state.settle_until = state.save_until =
      state.stop_until = std::nullopt;
  std::optional<Cause> cause = first_cause(state.endings);
  // Ranks that were asked to end, or lost others, tell nothing of why.
  const bool tells = cause && (cause->ending.hung ||
                               !(cause->ending.stopped || cause->ending.lost));
  if (state.trouble && !tells) cause = state.trouble;
  if (cause && cause->rank >= 0) cause->host = host_of(state, cause->rank);
  if (state.stop_code != 0 && (cause || !state.started)) {
    state.cause = cause;
    const bool steps =
        std::any_of(state.endings.begin(), state.endings.end(),
                    [](const RankEnding& e) { return e.step > 0; });
    if (state.phase == JobPhase::kSaving && steps) {
      // They were to be saved, and not all ranks did.
      return end(state, JobPhase::kCancelled, state.stop_code, actions);
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

void conclude_if_empty(JobState& state, Time now, JobActions& actions) {
  if (static_cast<int>(state.empty.size()) == state.agents) {
    conclude(state, now, actions);
  }
}

}  // namespace

void leave_empty(JobState& state, int agent, Time now, JobActions& actions) {
  if (takes_part(state, agent) && state.empty.insert(agent).second) {
    conclude_if_empty(state, now, actions);
  }
}

namespace {

bool ranks_run(const JobState& state, int agent) {
  return (state.started || state.stop_until) && !is_end(state.phase) &&
         state.phase != JobPhase::kRestarting && takes_part(state, agent) &&
         !state.empty.contains(agent);
}

/// As nobody else says what became of its ranks.
void blame_agent(JobState& state, int agent, const std::string& what) {
  if (state.trouble) return;
  const auto& hosts = state.options.hosts;
  const auto index = static_cast<std::size_t>(agent);
  state.trouble = Cause{.code = kExitInternal,
                        .text = agent_text(state, agent, what),
                        .host = index < hosts.size() ? hosts[index] : ""};
}

/// The others' ranks wait for those of that agent, and cannot save without
/// them: nothing is gained by letting them end in order.
void fail_for_agent(JobState& state, Time now, JobActions& actions) {
  if (state.stop_until) return;
  enter(state, JobPhase::kStopping, actions);
  stop_agents(state, true, now, actions);
}

/// What it should be doing, said again.
void say_again(const JobState& state, int agent, JobActions& actions) {
  if (state.phase == JobPhase::kStarting && state.generation > 0 &&
      agent == first_agent(state) && all_ready(state)) {
    send(state, agent, OpenRendezvous{}, actions);
  } else if (!ranks_run(state, agent)) {
    send(state, agent, Ping{}, actions);
  } else if (state.stop_until) {
    send(state, agent, Stop{state.at_once}, actions);
  } else if (!state.known.contains(agent)) {
    send_start(state, agent, actions);
  } else {
    send(state, agent, Ping{}, actions);
  }
}

/// A machine that a running generation does without is asked for less and less
/// often; one that is waited for, whenever it is lost.
bool may_try_again(JobState& state, int agent, Time now) {
  constexpr std::chrono::minutes kLongest(10);
  constexpr int kMostDoublings = 10;
  JobState::Absence& absence = state.absences[agent];
  const bool missed = !state.started || takes_part(state, agent);
  if (!missed && now < absence.until) return false;
  absence.until =
      now + std::min<Duration>(kLongest, state.options.contact.until_lost() *
                                             (1 << absence.tries));
  absence.tries = std::min(absence.tries + 1, kMostDoublings);
  return true;
}

/// Only when no process of it can have ranks.
void replace_agent(JobState& state, int agent, JobActions& actions) {
  state.contacts.await_another(agent);
  actions.emplace_back(
      Say{false, agent_text(state, agent, "is started again")});
  actions.emplace_back(ReplaceAgent{agent});
}

}  // namespace

void miss_agent(JobState& state, int agent, const std::string& what, Time now,
                JobActions& actions) {
  if (!ranks_run(state, agent)) return;
  blame_agent(state, agent, what);
  fail_for_agent(state, now, actions);
}

void lose_agent(JobState& state, int agent, const std::string& what, Time now,
                JobActions& actions) {
  state.ready.erase(agent);
  if (!ranks_run(state, agent)) return;
  blame_agent(state, agent, what);
  state.empty.insert(agent);
  fail_for_agent(state, now, actions);
  conclude_if_empty(state, now, actions);
}

void keep_contact(JobState& state, Time now, JobActions& actions) {
  state.repeat_at = now + state.options.contact.heartbeat;
  for (int agent = 0; agent < agent_count(state); ++agent) {
    if (is_end(state.phase)) return;
    if (state.contacts.lost(agent, now)) {
      lose_agent(state, agent, "was lost", now, actions);
      if (!is_end(state.phase) && may_try_again(state, agent, now)) {
        replace_agent(state, agent, actions);
      }
    } else if (state.contacts.silent(agent, now)) {
      miss_agent(state, agent, "is not heard of any more", now, actions);
    } else {
      say_again(state, agent, actions);
    }
  }
  // One of those that it was to begin on was lost: on whom it can, now.
  if (state.generation > 0 && !all_ready(state)) {
    start_if_ready(state, now, actions);
  }
}

JobActions without_silent(const JobState& state, JobActions actions, Time now) {
  std::erase_if(actions, [&](const JobAction& action) {
    const auto* send = std::get_if<SendCommand>(&action);
    return send != nullptr && state.contacts.silent(send->agent, now);
  });
  return actions;
}

}  // namespace catena::launcher
