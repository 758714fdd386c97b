#include "launcher/rank_state.h"

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
  return {{SIGKILL}};
}

}  // namespace

bool hear(RankState& state, std::string_view line) {
  RankEnding& ending = state.ending;
  if (line == kSaidDone) return !std::exchange(ending.done, true);
  if (line == kSaidLost) return !std::exchange(ending.lost, true);
  if (line == kSaidJoined) {
    ending.joined = true;
    return raise_phase(state, RankState::Phase::kJoined);
  }
  const std::string_view prefix = kSaidStep;
  if (!line.starts_with(prefix)) return false;
  std::int64_t step = 0;
  const char* end = line.data() + line.size();
  const auto [stop, error] =
      std::from_chars(line.data() + prefix.size(), end, step);
  if (error != std::errc() || stop != end || step <= ending.step) return false;
  ending.step = step;
  ending.joined = true;
  raise_phase(state, RankState::Phase::kSteady);
  return true;
}

RankActions stop(RankState& state, bool at_once, Duration grace, Time now) {
  if (state.phase == RankState::Phase::kExited) return {};
  const bool first = !std::exchange(state.ending.stopped, true);
  if (at_once) return kill_now(state);
  if (!first) return {};
  state.kill_at = now + grace;
  // A stopped process hears SIGTERM only when it goes on.
  return {{SIGTERM}, {SIGCONT}};
}

std::optional<Time> next_deadline(const RankState& state) {
  return state.kill_at;
}

RankActions tick(RankState& state, Time now) {
  if (!state.kill_at || now < *state.kill_at) return {};
  return kill_now(state);
}

bool reap(RankState& state, int code, int signal, std::string last_words) {
  if (!raise_phase(state, RankState::Phase::kExited)) return false;
  state.kill_at.reset();
  state.ending.code = code;
  state.ending.signal = signal;
  state.ending.last_words = std::move(last_words);
  return true;
}

}  // namespace catena::launcher
