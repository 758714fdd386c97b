#include "launcher/job_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "launcher/job_layout.h"

namespace catena::launcher {
namespace {

constexpr std::size_t kMostNamed = 8;
constexpr int kMostLines = 5;

double seconds(Duration duration) {
  return std::chrono::duration<double>(duration).count();
}

std::string digits(int number) { return fmt::format("{}", number); }

template <class Name>
std::string list(const std::vector<int>& numbers, Name name) {
  std::string text;
  for (std::size_t i = 0; i < numbers.size() && i <= kMostNamed; ++i) {
    if (i > 0) text += ", ";
    text += i == kMostNamed ? "..." : name(numbers[i]);
  }
  return text;
}

/// "1 (node7)".
std::string agent_name(const JobState& state, int agent) {
  const auto& hosts = state.options.hosts;
  const auto at = static_cast<std::size_t>(agent);
  return at < hosts.size() ? fmt::format("{} ({})", agent, hosts[at])
                           : digits(agent);
}

std::string list_agents(const JobState& state, const std::vector<int>& agents) {
  return list(agents, [&](int agent) { return agent_name(state, agent); });
}

/// So much of what a rank wrote; all of it is in its log.
std::string last_lines(const std::string& text) {
  std::size_t begin = text.size();
  for (int line = 0; line < kMostLines && begin != 0; ++line) {
    begin = text.rfind('\n', begin - 1);
    if (begin == std::string::npos) return text;
  }
  return text.substr(std::min(begin + 1, text.size()));
}

std::vector<int> missing(int all, const std::set<int>& there) {
  std::vector<int> result;
  for (int i = 0; i < all; ++i) {
    if (!there.contains(i)) result.push_back(i);
  }
  return result;
}

std::string who_is_missing(const JobState& state) {
  const bool agents = !state.started;
  const int all = agents ? agent_count(state) : state.world;
  const auto who = missing(all, agents ? state.ready : state.joined);
  if (who.empty()) return "no address for the ranks to meet";
  return fmt::format("{} of {} {}: {}", who.size(), all,
                     agents ? "agents are not ready" : "ranks have not met",
                     agents ? list_agents(state, who) : list(who, digits));
}

}  // namespace

std::string cause_text(const Cause& cause) {
  if (cause.rank < 0) return cause.text;
  std::string text = fmt::format("rank {} {}", cause.rank, cause.text);
  if (!cause.exchange.empty()) {
    text += fmt::format("; others missed it in {}", cause.exchange);
  }
  if (!cause.ending.last_words.empty()) {
    text += ":\n" + last_lines(cause.ending.last_words);
  }
  return text;
}

std::string failed_text(const RankEnding& ending) {
  return fmt::format(
      "rank {} {}; the others are ended, too", ending.rank,
      ending.lost ? "has lost another one" : cause_of(ending).text);
}

std::string suspected_text(const RankSuspected& suspected) {
  return fmt::format("rank {} {}", suspected.rank, suspected.text);
}

std::string status_text(const JobState& state) {
  return fmt::format(
      "{}, generation {}, step {}, checkpoint of step {}, {} of {} restarts",
      name_of(state.phase), state.generation, state.step, state.checkpoint_step,
      state.policy.restarts, state.policy.most_restarts);
}

std::string restart_text(const JobState& state, Duration wait) {
  std::string text =
      fmt::format("restart {} of {} from ", state.policy.restarts,
                  state.policy.most_restarts);
  text += state.checkpoint_step > 0
              ? fmt::format("step {}", state.checkpoint_step)
              : "the beginning";
  if (wait > Duration()) text += fmt::format(", in {:.3g} s", seconds(wait));
  return text;
}

std::string waiting_text(const JobState& state, Duration waited) {
  return fmt::format("{}; {:.0f} s of {:.0f} s", who_is_missing(state),
                     seconds(waited), seconds(state.options.start_timeout));
}

std::string too_late_text(const JobState& state) {
  return fmt::format("{} after {:.3g} s (--start-timeout)",
                     who_is_missing(state),
                     seconds(state.options.start_timeout));
}

std::string fewer_text(const JobState& state) {
  std::vector<int> without;
  for (int agent = 0; agent < agent_count(state); ++agent) {
    if (!takes_part(state, agent)) without.push_back(agent);
  }
  return fmt::format(
      "generation {} begins without agents {}: {} of {} take part, {} ranks",
      state.generation, list_agents(state, without),
      agent_count(state) - static_cast<int>(without.size()), agent_count(state),
      state.world);
}

std::string time_limit_text(const JobState& state) {
  return fmt::format(
      "the time limit of {:.3g} s (--time-limit) is reached: ranks save and "
      "end",
      seconds(state.options.time_limit));
}

std::string not_empty_text(const JobState& state) {
  std::vector<int> left = missing(agent_count(state), state.empty);
  std::erase_if(left, [&](int agent) { return !takes_part(state, agent); });
  return fmt::format(
      "agents {} did not end their ranks; look for processes "
      "that are left there",
      list_agents(state, left));
}

std::string agent_text(const JobState& state, int agent,
                       std::string_view what) {
  return fmt::format("agent {} {}", agent_name(state, agent), what);
}

}  // namespace catena::launcher
