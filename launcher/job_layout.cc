#include "launcher/job_layout.h"

#include <algorithm>
#include <numeric>

namespace catena::launcher {
namespace {

void count(JobState& state) {
  state.world = state.agents = 0;
  state.nodes.clear();
  for (const auto& ranks : state.ranks) {
    state.nodes.push_back(state.agents);
    state.world += static_cast<int>(ranks.size());
    if (!ranks.empty()) ++state.agents;
  }
}

}  // namespace

JobState::JobState(JobOptions job_options)
    : options(std::move(job_options)),
      policy(options.policy),
      ranks(options.ranks),
      contacts(options.contact) {
  count(*this);
}

int agent_count(const JobState& state) {
  return static_cast<int>(state.options.ranks.size());
}

bool takes_part(const JobState& state, int agent) {
  return !state.ranks.at(static_cast<std::size_t>(agent)).empty();
}

int first_agent(const JobState& state) {
  int agent = 0;
  while (agent + 1 < agent_count(state) && !takes_part(state, agent)) ++agent;
  return agent;
}

std::string host_of(const JobState& state, int rank) {
  const auto& of_ranks = state.options.rank_hosts;
  if (!of_ranks.empty()) return of_ranks.at(static_cast<std::size_t>(rank));
  const auto& hosts = state.options.hosts;
  for (std::size_t i = 0; i < hosts.size(); ++i) {
    const auto& here = state.ranks.at(i);
    if (std::find(here.begin(), here.end(), rank) != here.end()) {
      return hosts[i];
    }
  }
  return "";
}

bool is_elastic(const JobState& state) {
  const int least = state.options.least_agents;
  return least > 0 && least < agent_count(state);
}

bool all_ready(const JobState& state) {
  if (!state.laid) return false;
  for (int agent = 0; agent < agent_count(state); ++agent) {
    if (takes_part(state, agent) && !state.ready.contains(agent)) return false;
  }
  return true;
}

bool lay_generation(JobState& state) {
  const int ready = static_cast<int>(state.ready.size());
  const bool enough = is_elastic(state) && !state.rejoin_until &&
                      ready >= state.options.least_agents;
  if (ready < agent_count(state) && !enough) return false;
  int first = 0;
  for (int agent = 0; agent < agent_count(state); ++agent) {
    const auto index = static_cast<std::size_t>(agent);
    auto& ranks = state.ranks.at(index);
    ranks.clear();
    if (!state.ready.contains(agent)) continue;
    ranks.resize(state.options.ranks[index].size());
    std::iota(ranks.begin(), ranks.end(), first);
    first += static_cast<int>(ranks.size());
  }
  count(state);
  return true;
}

}  // namespace catena::launcher
