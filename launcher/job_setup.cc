#include "launcher/job_setup.h"

#include <fmt/format.h>

#include <utility>

#include "launcher/contract.h"
#include "launcher/engines.h"
#include "launcher/preflight/preflight_plan.h"
#include "runtime/base/log.h"

namespace catena::launcher {
namespace {

/// mpirun has them all, as one agent.
void join_ranks(JobOptions& options, const RankLayout& layout) {
  options.hosts = {host_names(layout)};
  // They are numbered host by host.
  for (std::size_t i = 0; i < layout.ranks.size(); ++i) {
    options.rank_hosts.insert(options.rank_hosts.end(), layout.ranks[i].size(),
                              layout.hosts[i].name);
  }
  for (std::size_t i = 1; i < options.ranks.size(); ++i) {
    options.ranks[0].insert(options.ranks[0].end(), options.ranks[i].begin(),
                            options.ranks[i].end());
  }
  options.ranks.resize(1);
}

}  // namespace

bool is_remote(const LaunchRequest& request) {
  return request.engine != Engine::kMpi &&
         (request.agents > 0 || !request.hosts.empty());
}

bool may_look(const LaunchRequest& request) {
  return request.preflight &&
         (request.engine != Engine::kMpi || request.hosts.empty());
}

JobOptions job_options(const JobPlan& plan, const LaunchRequest& request) {
  JobOptions options{.ranks = plan.layout.ranks,
                     .least_agents = request.least_agents,
                     .rejoin = request.rejoin,
                     .policy = {.most_restarts = request.max_restarts},
                     .start_timeout = request.start_timeout,
                     .grace = request.grace,
                     .time_limit = request.time_limit};
  for (const Host& host : plan.layout.hosts) options.hosts.push_back(host.name);
  if (is_remote(request)) options.contact = contact_rules(request.lease);
  if (request.engine == Engine::kMpi) join_ranks(options, plan.layout);
  return options;
}

RankSetup rank_setup(const JobPlan& plan, const LaunchRequest& request) {
  std::vector<std::string> environment = request.environment;
  environment.push_back(
      fmt::format("{}={}", kMaxRestartsVariable, request.max_restarts));
  return {.program = plan.program,
          .arguments = plan.arguments,
          .job = plan.job,
          .token = random_secret(),
          .run = plan.run,
          .grace = request.grace,
          .section_timeout = request.section_timeout,
          .environment = std::move(environment),
          .bind = request.bind,
          .share = rank_shares(plan.layout).front()};
}

RemoteOptions remote_options(const JobPlan& plan,
                             const LaunchRequest& request) {
  RemoteOptions options{.commands = {},
                        .hosts = {},
                        .shares = rank_shares(plan.layout),
                        .address = request.address,
                        .tls = false,
                        .lease = request.lease,
                        .preflight = may_look(request)};
  for (const Host& host : all_hosts(plan, request)) {
    options.hosts.push_back(host.name);
    options.commands.push_back(agent_command(request.engine, host));
  }
  if (options.address.empty()) {
    options.address = request.hosts.empty()
                          ? "127.0.0.1"
                          : address_towards(plan.layout.hosts);
  }
  const bool local = is_loopback(options.address);
  options.tls = request.tls.value_or(!local);
  if (options.tls) {
    log::info("agents connect to {} by TLS 1.3", options.address);
  } else if (!local) {
    log::warning(
        "agents connect to {} without TLS (--tls off): who can read the wire "
        "reads arguments, environment and the token of the ranks",
        options.address);
  }
  return options;
}

}  // namespace catena::launcher
