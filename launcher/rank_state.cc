#include "launcher/rank_state.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <csignal>
#include <utility>

#include "launcher/contract.h"

namespace catena::launcher {
namespace {

bool raise_phase(RankState& state, RankState::Phase phase) {
  if (state.phase >= phase) return false;
  state.phase = phase;
  return true;
}

RankActions kill_now(RankState& state) {
  state.kill_at.reset();
  if (state.killed) return {};
  state.killed = true;
  return {SendSignal{SIGKILL}};
}

/// The number that a text begins with; what follows it remains.
template <class Number>
std::optional<Number> take_number(std::string_view& text) {
  Number number = 0;
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, number);
  if (error != std::errc() || number < 0) return std::nullopt;
  text.remove_prefix(static_cast<std::size_t>(stop - text.data()));
  return number;
}

bool take_prefix(std::string_view& line, std::string_view prefix) {
  if (!line.starts_with(prefix)) return false;
  line.remove_prefix(prefix.size());
  return true;
}

RankActions enter_section(RankState& state, Section section,
                          SectionTimes& times, Time now) {
  state.ending.section = name_of(section);
  state.ending.waits_for = -1;
  state.ending.waits_in.clear();
  if (state.ending.stopped) return {};
  const double age =
      std::chrono::duration<double>(now - state.watch.since).count();
  if (!enter(state.watch, times, section, now)) return {};
  return {Notice{RankSuspected::Verdict::kGoesOn,
                 fmt::format("goes on after {:.3g} s", age)}};
}

RankActions hear_section(RankState& state, std::string_view name,
                         SectionTimes& times, Time now) {
  auto section = section_named(name);
  if (!section) return {};
  if (section == Section::kStep && state.ending.step == 0) {
    section = Section::kFirstStep;
  }
  return enter_section(state, *section, times, now);
}

RankActions hear_step(RankState& state, std::string_view text,
                      SectionTimes& times, Time now) {
  const auto step = take_number<std::int64_t>(text);
  if (!step || !text.empty() || *step == state.step) return {};
  // Fewer than before, where it went back to a checkpoint.
  state.step = *step;
  state.ending.step = std::max(state.ending.step, *step);
  state.ending.joined = true;
  raise_phase(state, RankState::Phase::kSteady);
  if (!state.watch.section) return {};
  return enter_section(state, Section::kStep, times, now);
}

void hear_wait(RankState& state, std::string_view text, Time now) {
  const auto rank = take_number<int>(text);
  if (!rank || !take_prefix(text, " ")) return;
  state.ending.waits_for = *rank;
  state.ending.waits_in = text;
  wait_for(state.watch, *rank, text, now);
}

/// "lost", or "lost all_reduce (control)".
void hear_lost(RankEnding& ending, std::string_view in) {
  if (!in.empty() && !take_prefix(in, " ")) return;
  ending.waits_in = in;
  ending.lost = true;
}

}  // namespace

RankActions hear(RankState& state, std::string_view line, SectionTimes& times,
                 Time now) {
  RankEnding& ending = state.ending;
  if (line == kSaidDone) ending.done = true;
  if (take_prefix(line, kSaidLost)) hear_lost(ending, line);
  if (line == kSaidJoined) {
    ending.joined = true;
    raise_phase(state, RankState::Phase::kJoined);
  }
  // That it is ended has it go on, and tells nothing of where it hung.
  if (ending.hung) return {};
  if (take_prefix(line, kSaidSection)) {
    return hear_section(state, line, times, now);
  }
  if (take_prefix(line, kSaidStep)) return hear_step(state, line, times, now);
  if (take_prefix(line, kSaidWaits)) hear_wait(state, line, now);
  return {};
}

RankActions stop(RankState& state, bool at_once, Duration grace, Time now) {
  if (state.phase == RankState::Phase::kExited) return {};
  close(state.watch);
  const bool first = !std::exchange(state.ending.stopped, true);
  if (at_once) return kill_now(state);
  if (!first) return {};
  state.kill_at = now + grace;
  // A stopped process hears SIGTERM only when it goes on.
  return {SendSignal{SIGTERM}, SendSignal{SIGCONT}};
}

RankActions ask_to_save(const RankState& state) {
  const bool answers = state.watch.section && !state.ending.stopped &&
                       state.phase != RankState::Phase::kExited;
  return answers ? RankActions{SendSignal{SIGUSR1}} : RankActions();
}

RankActions inspect(const RankState& state, Time now) {
  const bool answers =
      state.watch.section && state.phase != RankState::Phase::kExited;
  if (!answers) return {};
  return {Notice{RankSuspected::Verdict::kAsked,
                 watch_text(state.watch, state.ending.step, now)}};
}

std::optional<Time> next_deadline(const RankState& state) {
  return state.kill_at ? state.kill_at : state.watch.due;
}

RankActions tick(RankState& state, const SectionTimes& times, Duration grace,
                 Time now) {
  if (state.kill_at) {
    return now < *state.kill_at ? RankActions() : kill_now(state);
  }
  const WatchVerdict verdict = judge(state.watch, times, now);
  if (verdict == WatchVerdict::kNone) return {};
  std::string text = watch_text(state.watch, state.ending.step, now);
  if (verdict == WatchVerdict::kWarn) {
    if (!waits(state.watch, now)) {
      text += "; it is ended if that lasts as long again";
    }
    return {Notice{RankSuspected::Verdict::kWarned, std::move(text)}};
  }
  state.ending.hung = true;
  state.ending.silent_seconds =
      std::chrono::duration<double>(now - state.watch.since).count();
  RankActions actions = {
      Notice{RankSuspected::Verdict::kHung, text + "; it hangs, and is ended"}};
  const RankActions signals =
      stop(state, false, std::min<Duration>(grace, kHungGrace), now);
  actions.insert(actions.end(), signals.begin(), signals.end());
  return actions;
}

bool reap(RankState& state, int code, int signal, std::string last_words) {
  if (!raise_phase(state, RankState::Phase::kExited)) return false;
  state.kill_at.reset();
  close(state.watch);
  state.ending.code = code;
  state.ending.signal = signal;
  state.ending.last_words = std::move(last_words);
  return true;
}

}  // namespace catena::launcher
