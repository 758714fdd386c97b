#include "launcher/commands/launch.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <sched.h>

#include <CLI/CLI.hpp>
#include <array>
#include <cstdio>
#include <cstdlib>

#include "launcher/commands/parse.h"
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

constexpr int kMostRanks = 1024;
constexpr double kYearSeconds = 365 * 24 * 3600.0;

struct Options {
  LaunchRequest request;
  NodeRequest nodes;
  std::string bind = name_of(Bind::kNone);
  std::string hosts = {}, hostfile = {}, tls = "auto";
  double grace = 30, start_timeout = 600, section_timeout = 0, lease = 10,
         rejoin = 30, time_limit = 0, preflight_timeout = 30;
};

Duration from_seconds(double seconds) {
  return std::chrono::ceil<Duration>(std::chrono::duration<double>(seconds));
}

/// What is wrong with it; "": nothing.
std::string not_an_address(const std::string& text) {
  std::array<unsigned char, sizeof(in6_addr)> bytes{};
  const bool good = ::inet_pton(AF_INET, text.c_str(), bytes.data()) == 1 ||
                    ::inet_pton(AF_INET6, text.c_str(), bytes.data()) == 1;
  return good ? "" : text + " is no numeric address, such as 10.0.0.1 or ::1";
}

/// NAME becomes NAME=VALUE.
std::string with_value(const std::string& text) {
  const std::string name = text.substr(0, text.find('='));
  if (name.empty() || name.starts_with("CATENA_")) {
    throw CLI::ValidationError(
        "--env", "'" + text + "': a name is wanted, and CATENA_... are ours");
  }
  if (name.size() < text.size()) return text;
  const char* value = std::getenv(name.c_str());
  if (value == nullptr) {
    throw CLI::ValidationError("--env", name + " is not set here");
  }
  return name + "=" + value;
}

void add_training(CLI::App& app, LaunchRequest& request) {
  app.add_option("config", request.config,
                 "TOML file; `catena config markdown` lists every key")
      ->required();
  app.add_option("--set", request.assignments,
                 "KEY=VALUE, over what the file says; repeatable")
      ->allow_extra_args(false);
  app.add_flag("--resume", request.resume,
               "Go on with this configuration's last run, from its newest "
               "valid checkpoint");
  app.add_option("--init-from", request.init_from,
                 "Begin with the weights of a run, a checkpoint or a "
                 ".safetensors file, as long as there is no checkpoint");
  app.add_option("--trace", request.trace,
                 "steps=A:B: write what every rank did when in these steps to "
                 "RUN/trace; `catena trace merge RUN` makes one file of it");
}

void add_hosts(CLI::App& app, Options& options) {
  auto* hosts =
      app.add_option(
             "--hosts", options.hosts,
             "HOST,USER@HOST:SLOTS,...: ranks are laid on these machines in "
             "order, by an agent on each, which ssh starts")
          ->envname("CATENA_HOSTS");
  auto* hostfile =
      app.add_option("--hostfile", options.hostfile,
                     "The same from a file, a host a line; # comments")
          ->envname("CATENA_HOSTFILE")
          ->excludes(hosts);
  app.add_option("--agents", options.nodes.agents,
                 "So many agents on this machine, as if it were as many")
      ->envname("CATENA_AGENTS")
      ->check(CLI::Range(1, kMostRanks))
      ->excludes(hosts)
      ->excludes(hostfile);
  app.add_option("--nnodes", options.nodes.nodes,
                 "N or N:M machines: the first M of the hosts, or all M "
                 "agents. After a loss the job goes on with N or more of them")
      ->envname("CATENA_NNODES");
  app.add_option("--nproc-per-node", options.nodes.ranks_per_node,
                 "Ranks of every machine, instead of -n; auto: the hosts' "
                 "slots, or as many as this machine has cores")
      ->envname("CATENA_NPROC_PER_NODE");
  app.add_option("--rejoin-timeout", options.rejoin,
                 "With N:M: seconds that a start waits for all machines before "
                 "it does with fewer")
      ->envname("CATENA_REJOIN_TIMEOUT")
      ->check(CLI::Range(0.0, kYearSeconds))
      ->capture_default_str();
}

void add_agents(CLI::App& app, Options& options) {
  LaunchRequest& request = options.request;
  app.add_option("--env", request.environment,
                 "NAME=VALUE, or NAME for what it is here: set for every rank; "
                 "repeatable")
      ->allow_extra_args(false)
      ->transform(with_value);
  app.add_option(
         "--address", request.address,
         "Numeric address of this machine where agents find it, and "
         "where alone it listens; else the one that the way to the first "
         "host begins with")
      ->envname("CATENA_ADDRESS")
      ->check(CLI::Validator(not_an_address, "ADDRESS"));
  app.add_option("--tls", options.tls,
                 "Whether agents and launcher speak by TLS 1.3: on, off, or "
                 "auto, which is on unless --address is of the loopback")
      ->envname("CATENA_TLS")
      ->check(CLI::IsMember({"auto", "on", "off"}))
      ->capture_default_str();
  app.add_option("--bind", options.bind,
                 "core: every rank runs on its share of its machine's cores "
                 "alone; numa: on the NUMA nodes that these begin in; none: "
                 "anywhere")
      ->envname("CATENA_BIND")
      ->check(CLI::IsMember({"none", "core", "numa"}))
      ->capture_default_str();
  app.add_option("--lease", options.lease,
                 "Seconds without a word after which agent and launcher take "
                 "each other for lost")
      ->envname("CATENA_LEASE")
      ->check(CLI::Range(0.1, kYearSeconds))
      ->capture_default_str();
}

void add_launching(CLI::App& app, Options& options) {
  LaunchRequest& request = options.request;
  app.add_option("-n,--ranks", options.nodes.ranks,
                 "Processes to start; else the hosts' slots (in an allocation "
                 "of Slurm: its tasks), or one a machine")
      ->envname("CATENA_RANKS")
      ->check(CLI::Range(1, kMostRanks));
  app.add_option(
         "--engine", options.nodes.engine,
         "How ranks are started: local (this machine), ssh (--hosts, "
         "--hostfile), slurm (on the nodes of the allocation that this "
         "is called in) or mpi (by mpirun, on either); auto: one of the "
         "first three, for which there are hosts or nodes")
      ->envname("CATENA_ENGINE")
      ->check(CLI::IsMember({"auto", "local", "ssh", "slurm", "mpi"}));
  app.add_option("--max-restarts", request.max_restarts,
                 "How often the ranks are started again after a failure, from "
                 "the newest checkpoint; three starts in a row without a new "
                 "one end the job (93)")
      ->envname("CATENA_MAX_RESTARTS")
      ->check(CLI::Range(0, 1000000))
      ->capture_default_str();
  app.add_option("--grace-period", options.grace,
                 "Seconds between SIGTERM and SIGKILL, for every rank")
      ->envname("CATENA_GRACE_PERIOD")
      ->check(CLI::Range(0.0, kYearSeconds))
      ->capture_default_str();
  app.add_option("--start-timeout", options.start_timeout,
                 "Seconds for all ranks to meet")
      ->envname("CATENA_START_TIMEOUT")
      ->check(CLI::Range(0.1, kYearSeconds))
      ->capture_default_str();
  app.add_option("--time-limit", options.time_limit,
                 "Seconds after which the job is stopped as by Ctrl-C: 75, or "
                 "124 where nothing is saved. 0: none")
      ->envname("CATENA_TIME_LIMIT")
      ->check(CLI::Range(0.0, kYearSeconds))
      ->capture_default_str();
  app.add_option("--section-timeout", options.section_timeout,
                 "Seconds in which a rank must come further in what it does; "
                 "then it is warned of, and after as many more it is ended as "
                 "hung. 0: five times the longest seen, 30 at least")
      ->envname("CATENA_SECTION_TIMEOUT")
      ->check(CLI::Range(0.0, kYearSeconds))
      ->capture_default_str();
  app.add_flag("!--no-dashboard", request.dashboard,
               "Serve no dashboard and no /metrics while the job runs")
      ->envname("CATENA_DASHBOARD");
  app.add_option("--dashboard-port", request.dashboard_at.port,
                 "Port of the dashboard; 0: one that is free")
      ->envname("CATENA_DASHBOARD_PORT")
      ->check(CLI::Range(0, 65535))
      ->capture_default_str();
  app.add_option("--dashboard-address", request.dashboard_at.address,
                 "Numeric, of this machine; 0.0.0.0: all it has, so that "
                 "whoever reaches it sees the run")
      ->envname("CATENA_DASHBOARD_ADDRESS")
      ->capture_default_str();
  app.add_flag("--dry-run", request.dry_run,
               "Print which ranks would run where, and whether they fit");
  app.add_flag("--json", request.json, "With --dry-run: as one JSON object");
}

void add_preflight(CLI::App& app, Options& options) {
  LaunchRequest& request = options.request;
  app.add_flag("!--no-preflight", request.preflight,
               "Do not look at the machines before ranks are started")
      ->envname("CATENA_PREFLIGHT");
  app.add_flag("--exclude-slow", request.exclude_slow,
               "Do without machines that the preflight finds slow or bad, on "
               "as few as --nnodes N:M allows, or on hosts beyond the first M")
      ->envname("CATENA_EXCLUDE_SLOW");
  app.add_option("--preflight-timeout", options.preflight_timeout,
                 "Seconds for the machines to answer each of its questions")
      ->envname("CATENA_PREFLIGHT_TIMEOUT")
      ->check(CLI::Range(0.1, kYearSeconds))
      ->capture_default_str();
}

constexpr const char* kFooter =
    "Examples:\n"
    "  catena launch -n 4 configs/quickstart.toml\n"
    "  catena launch -n 4 configs/quickstart.toml --resume --max-restarts 10\n"
    "  catena launch -n 4 configs/quickstart.toml --dry-run --json\n"
    "  catena launch -n 16 --hosts node1,me@node2 configs/quickstart.toml\n"
    "  catena launch --hostfile hosts --nnodes 3:4 --nproc-per-node 8 "
    "configs/coe-2-4-64.toml\n"
    "  salloc -N 2 --ntasks-per-node 8 catena launch configs/quickstart.toml\n"
    "Ctrl-C saves a checkpoint and ends (75); a second one ends at once.";

std::vector<Host> hosts_of(const Options& options) {
  if (!options.hosts.empty()) return parse_hosts(options.hosts, "--hosts");
  if (options.hostfile.empty()) return {};
  return parse_hostfile(read_file(options.hostfile), options.hostfile);
}

/// That this process may run on.
int cores() {
  cpu_set_t set;
  return ::sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
}

int carry_out(const Options& options) {
  LaunchRequest request = options.request;
  request.grace = from_seconds(options.grace);
  request.start_timeout = from_seconds(options.start_timeout);
  request.section_timeout = from_seconds(options.section_timeout);
  request.time_limit = from_seconds(options.time_limit);
  request.lease = from_seconds(options.lease);
  request.rejoin = from_seconds(options.rejoin);
  if (options.tls != "auto") request.tls = options.tls == "on";
  request.bind = bind_named(options.bind);
  request.probe_time = from_seconds(options.preflight_timeout);
  if (request.exclude_slow && !request.preflight) {
    fail(ErrorKind::kUsage,
         "--exclude-slow and --no-preflight: nobody would know who is slow");
  }
  NodeRequest nodes = options.nodes;
  nodes.hosts = hosts_of(options);
  nodes.cores = cores();
  nodes.spares = request.exclude_slow;
  if (nodes.hosts.empty() && nodes.agents == 0 && nodes.engine != "local") {
    nodes.allocation = slurm_allocation();
  }
  NodeChoice choice = choose_nodes(std::move(nodes));
  request.engine = choice.engine;
  request.ranks = choice.ranks;
  request.agents = choice.agents;
  request.least_agents = choice.least_agents;
  request.hosts = std::move(choice.hosts);
  if (request.tls == true && request.engine == Engine::kMpi) {
    fail(ErrorKind::kUsage,
         "--tls on: mpirun has connections of its own, which know no TLS; "
         "leave it out, or take another --engine");
  }
  request.spare_hosts = std::move(choice.spare_hosts);
  if (request.least_agents > 0 && request.start_timeout <= request.rejoin) {
    fail(
        ErrorKind::kUsage,
        "--start-timeout {} ends a start before --rejoin-timeout {} lets it do "
        "with fewer machines: make it longer",
        options.start_timeout, options.rejoin);
  }
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
  return run_job(plan, request);
}

}  // namespace

int launch(const std::vector<std::string>& arguments) {
  CLI::App app("Trains by several ranks: starts, watches and restarts them.",
               "catena launch");
  Options options;
  add_training(app, options.request);
  add_launching(app, options);
  add_hosts(app, options);
  add_agents(app, options);
  add_preflight(app, options);
  app.footer(kFooter);
  if (const auto code = parse_command(app, arguments)) return *code;
  return carry_out(options);
}

}  // namespace catena::launcher
