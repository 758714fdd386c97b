#include "launcher/preflight/preflight_plan.h"

#include <algorithm>

#include "launcher/contract.h"
#include "launcher/preflight/preflight_report.h"
#include "runtime/base/error.h"
#include "runtime/base/files.h"
#include "runtime/base/log.h"

namespace catena::launcher {
namespace {

bool is_elastic(const LaunchRequest& request) {
  return request.least_agents > 0;
}

ProbeMachine machine_probe(const JobPlan& plan, const LaunchRequest& request) {
  if (looks_alone(request)) return {.run = plan.run.string()};
  return {.program = plan.needs.program,
          .run = plan.run.string(),
          .files = plan.needs.files};
}

Wanted wanted(const JobPlan& plan, const LaunchRequest& request) {
  const int machines = static_cast<int>(plan.layout.hosts.size());
  return {.machines = machines,
          .least = is_elastic(request) ? request.least_agents : machines,
          .exclude_slow = request.exclude_slow};
}

/// Ranks that share this machine's memory.
int ranks_on(const JobPlan& plan, const LaunchRequest& request,
             std::size_t node) {
  if (request.hosts.empty()) return plan.ranks;
  const auto& ranks = plan.layout.ranks;
  // A spare machine gets those of another one.
  return static_cast<int>(ranks.at(node < ranks.size() ? node : 0).size());
}

void say(const PreflightState& state, const JobNeeds& needs,
         const std::vector<Finding>& findings, const Chosen& chosen) {
  for (const std::string& line :
       preflight_table(state.nodes, state.links, needs)) {
    log::info("{}", line);
  }
  for (const auto& [agent, why] : state.gone) {
    log::warning("preflight: {} ({}) is gone: {}", agent,
                 state.nodes.at(static_cast<std::size_t>(agent)).host, why);
  }
  for (const Finding& finding : findings) {
    log::warning("{}", finding_text(state.nodes, finding));
  }
  if (chosen.code != 0) return;
  std::string without;
  for (std::size_t i = 0; i < state.nodes.size(); ++i) {
    const int node = static_cast<int>(i);
    const auto& nodes = chosen.nodes;
    if (std::find(nodes.begin(), nodes.end(), node) != nodes.end()) continue;
    without += fmt::format("{}{} ({})", without.empty() ? "" : ", ", i,
                           state.nodes[i].host);
  }
  if (!without.empty()) log::info("preflight: left out: {}", without);
}

/// Agents for whom the job cannot wait any longer, and whom it needs.
void refuse_late(const LaunchRequest& request, const PreflightState& state,
                 Chosen& chosen) {
  const int left = static_cast<int>(state.nodes.size() - state.gone.size());
  const int enough = state.options.enough;
  // It has asked nobody anything, and none of those that are gone is why.
  const bool too_late = state.number == 0 && left >= enough &&
                        static_cast<int>(state.there.size()) < enough &&
                        state.options.patience >= request.start_timeout;
  if (!too_late) return;
  const std::chrono::duration<double> limit = state.options.patience;
  const Missing late = missing(state);
  chosen.code = kExitNotAssembled;
  chosen.why = fmt::format(
      "{} of {} agents have not come in {:.3g} s: {}; let them have more "
      "time with --start-timeout",
      late.agents, state.nodes.size(), limit.count(), late.names);
}

/// Who gets no ranks, as others have slots for all, is not chosen.
void lay_on_chosen(const LaunchRequest& request, Conclusion& conclusion) {
  JobPlan& plan = conclusion.plan;
  Chosen& chosen = conclusion.chosen;
  const std::vector<Host> all = all_hosts(plan, request);
  const std::size_t before = plan.layout.hosts.size();
  std::vector<Host> hosts;
  for (const int node : chosen.nodes) {
    hosts.push_back(all.at(static_cast<std::size_t>(node)));
  }
  if (hosts == plan.layout.hosts) return;
  if (hosts.size() != before) {
    plan.ranks =
        plan.ranks / static_cast<int>(before) * static_cast<int>(hosts.size());
  }
  try {
    plan.layout = lay_ranks(plan.ranks, hosts);
    // Slots are filled in order.
    chosen.nodes.resize(plan.layout.hosts.size());
  } catch (const Error& error) {
    chosen.code = kExitNotAssembled;
    chosen.why = error.what();
  }
}

}  // namespace

bool looks_alone(const LaunchRequest& request) {
  return request.hosts.empty() && request.agents == 0;
}

std::vector<Host> all_hosts(const JobPlan& plan, const LaunchRequest& request) {
  std::vector<Host> hosts = plan.layout.hosts;
  hosts.insert(hosts.end(), request.spare_hosts.begin(),
               request.spare_hosts.end());
  return hosts;
}

PreflightOptions preflight_options(const JobPlan& plan,
                                   const LaunchRequest& request) {
  PreflightOptions options{.enough = wanted(plan, request).least,
                           .probe_time = request.probe_time,
                           .machine = machine_probe(plan, request),
                           .compare = !request.hosts.empty(),
                           .ticket = random_secret()};
  const bool may_do_without =
      is_elastic(request) || !request.spare_hosts.empty();
  options.patience = may_do_without ? request.rejoin : request.start_timeout;
  for (const Host& host : all_hosts(plan, request)) {
    options.ranks.push_back(ranks_on(plan, request, options.hosts.size()));
    options.hosts.push_back(host.name);
  }
  return options;
}

Conclusion conclude(const JobPlan& plan, const LaunchRequest& request,
                    const PreflightState& state, const MachineFacts* ours) {
  JobNeeds needs = plan.needs;
  if (looks_alone(request)) needs.files.clear();
  std::vector<bool> there(state.nodes.size());
  for (const int agent : state.there) {
    there.at(static_cast<std::size_t>(agent)) = true;
  }
  const std::vector<Finding> findings =
      judge(state.nodes, state.links, needs, ours);
  Conclusion conclusion{
      .chosen = choose(state.nodes, there, findings, wanted(plan, request)),
      .plan = plan};
  Chosen& chosen = conclusion.chosen;
  if (chosen.code != 0) chosen.why += "; --no-preflight starts it all the same";
  if (chosen.code == 0) refuse_late(request, state, chosen);
  if (chosen.code == 0) lay_on_chosen(request, conclusion);
  say(state, needs, findings, chosen);
  try {
    write_file_atomically(
        plan.run / "preflight.json",
        preflight_json(state.nodes, state.links, needs, findings, chosen));
  } catch (const Error& error) {
    log::warning("{}", error.what());
  }
  return conclusion;
}

}  // namespace catena::launcher
