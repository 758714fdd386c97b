#include "launcher/commands/launch.h"

#include <sched.h>

#include <cstdio>
#include <utility>

#include "launcher/commands/launch_options.h"
#include "launcher/contract.h"
#include "launcher/hosts.h"
#include "launcher/job_plan.h"
#include "launcher/local_job.h"
#include "launcher/node_choice.h"
#include "runtime/base/error.h"
#include "runtime/base/files.h"
#include "runtime/base/log.h"

namespace catena::launcher {
namespace {

Duration from_seconds(double seconds) {
  return std::chrono::ceil<Duration>(std::chrono::duration<double>(seconds));
}

std::vector<Host> hosts_of(const LaunchOptions& options) {
  const LaunchConfig& launch = options.launch;
  if (!launch.hosts.empty()) {
    return parse_hosts(launch.hosts, options.origin("launch.hosts"));
  }
  if (launch.hostfile.empty()) return {};
  return parse_hostfile(read_file(launch.hostfile), launch.hostfile);
}

/// That this process may run on.
int cores() {
  cpu_set_t set;
  return ::sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
}

LaunchRequest told(const LaunchOptions& options) {
  const LaunchConfig& launch = options.launch;
  LaunchRequest request{.config = options.config_file,
                        .assignments = options.assignments,
                        .init_from = launch.init_from,
                        .trace = launch.trace,
                        .resume = launch.resume,
                        .dry_run = options.dry_run,
                        .json = options.json,
                        .max_restarts = static_cast<int>(launch.max_restarts),
                        .dashboard = launch.dashboard,
                        .dashboard_at = {.port = static_cast<std::uint16_t>(
                                             launch.dashboard_port),
                                         .address = launch.dashboard_address},
                        .grace = from_seconds(launch.grace_period),
                        .start_timeout = from_seconds(launch.start_timeout),
                        .section_timeout = from_seconds(launch.section_timeout),
                        .time_limit = from_seconds(launch.time_limit),
                        .rejoin = from_seconds(launch.rejoin_timeout),
                        .environment = launch.env,
                        .bind = bind_named(launch.bind),
                        .address = launch.address,
                        .lease = from_seconds(launch.lease),
                        .preflight = launch.preflight,
                        .exclude_slow = launch.exclude_slow,
                        .probe_time = from_seconds(launch.preflight_timeout)};
  if (launch.tls != "auto") request.tls = launch.tls == "on";
  return request;
}

NodeChoice choose_nodes(const LaunchOptions& options) {
  const LaunchConfig& launch = options.launch;
  NodeRequest nodes{.ranks = static_cast<int>(launch.ranks),
                    .nodes = launch.nnodes,
                    .ranks_per_node = launch.nproc_per_node,
                    .agents = static_cast<int>(launch.agents),
                    .hosts = hosts_of(options),
                    .cores = cores(),
                    .engine = launch.engine,
                    .spares = launch.exclude_slow};
  if (nodes.hosts.empty() && nodes.agents == 0 && nodes.engine != "local") {
    nodes.allocation = slurm_allocation();
  }
  return choose_nodes(std::move(nodes));
}

void check_together(const LaunchRequest& request, const LaunchConfig& launch) {
  if (request.exclude_slow && !request.preflight) {
    fail(ErrorKind::kUsage,
         "--exclude-slow and --no-preflight: nobody would know who is slow");
  }
  if (request.tls == true && request.engine == Engine::kMpi) {
    fail(ErrorKind::kUsage,
         "--tls on: mpirun has connections of its own, which know no TLS; "
         "leave it out, or take another --engine");
  }
  if (request.least_agents > 0 && request.start_timeout <= request.rejoin) {
    fail(
        ErrorKind::kUsage,
        "--start-timeout {} ends a start before --rejoin-timeout {} lets it do "
        "with fewer machines: make it longer",
        launch.start_timeout, launch.rejoin_timeout);
  }
}

int carry_out(const LaunchRequest& request) {
  JobPlan plan;
  if (const int code = make_plan(request, plan); code != kExitSuccess) {
    return code;
  }
  if (request.dry_run) {
    const std::string text = request.json ? plan_json(plan) : plan_text(plan);
    std::fputs(text.c_str(), stdout);
    return plan.does_not_fit.empty() ? kExitSuccess : kExitDoesNotFit;
  }
  log::set_prefix("launch: ");
  const log::Background background;
  return run_job(plan, request);
}

}  // namespace

LaunchRequest launch_request(const LaunchOptions& options) {
  try {
    LaunchRequest request = told(options);
    NodeChoice choice = choose_nodes(options);
    request.engine = choice.engine;
    request.ranks = choice.ranks;
    request.agents = choice.agents;
    request.least_agents = choice.least_agents;
    request.hosts = std::move(choice.hosts);
    request.spare_hosts = std::move(choice.spare_hosts);
    check_together(request, options.launch);
    return request;
  } catch (const Error& error) {
    throw Error(error.kind(), options.with_origins(error.what()));
  }
}

int launch(const std::vector<std::string>& arguments) {
  LaunchOptions options;
  if (const auto code = options.read(arguments)) return *code;
  return carry_out(launch_request(options));
}

}  // namespace catena::launcher
