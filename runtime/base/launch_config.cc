#include "runtime/base/launch_config.h"

#include <arpa/inet.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>

namespace catena {
namespace {

constexpr std::int64_t kMostRanks = 1024, kMostRestarts = 1000000,
                       kMostPort = 65535;
constexpr double kYear = 365 * 24 * 3600.0;

void describe_machines(config::Schema& s, LaunchConfig& l) {
  s.add("launch.ranks", l.ranks,
        config::Integer{0, kMostRanks, "ranks",
                        "Processes to start; else (0) the hosts' slots (in "
                        "an allocation of Slurm: its tasks), or one a "
                        "machine."});
  s.add("launch.engine", l.engine,
        config::Text{{"auto", "local", "ssh", "slurm", "mpi"},
                     "",
                     "How ranks are started: local (this machine), ssh (on "
                     "the hosts), slurm (on the nodes of the allocation that "
                     "this is called in) or mpi (by mpirun, on either); auto: "
                     "one of the first three, for which there are hosts or "
                     "nodes."});
  s.add("launch.hosts", l.hosts,
        config::Text{{},
                     "",
                     "HOST,USER@HOST:SLOTS,...: ranks are laid on these "
                     "machines in order, by an agent on each, which ssh "
                     "starts."});
  s.add(
      "launch.hostfile", l.hostfile,
      config::Text{{}, "", "The same from a file, a host a line; # comments."});
  s.add("launch.agents", l.agents,
        config::Integer{0, kMostRanks, "agents",
                        "So many on this machine, as if it were as many; "
                        "else (0) the launcher is the only one."});
  s.add("launch.nnodes", l.nnodes,
        config::Text{{},
                     "machines",
                     "N or N:M: the first M of the hosts, or all M agents. "
                     "After a loss the job goes on with N or more of them."});
  s.add("launch.nproc_per_node", l.nproc_per_node,
        config::Text{{},
                     "ranks",
                     "Ranks of every machine, instead of a total; auto: "
                     "the hosts' slots, or as many as this machine has "
                     "cores."});
  s.add("launch.rejoin_timeout", l.rejoin_timeout,
        config::Number{0, kYear, "seconds",
                       "With nnodes N:M: that a start waits for all machines "
                       "before it does with fewer."});
}

void describe_agents(config::Schema& s, LaunchConfig& l) {
  s.add("launch.env", l.env,
        config::Text{{},
                     "",
                     "NAME=VALUE, or NAME for what it is where the launcher "
                     "is: set for every rank; repeatable. Sources add to each "
                     "other, name by name."});
  s.add("launch.bind", l.bind,
        config::Text{{"none", "core", "numa"},
                     "",
                     "core: every rank runs on its share of its machine's "
                     "cores alone; numa: on the NUMA nodes that these begin "
                     "in; none: anywhere."});
  s.add("launch.address", l.address,
        config::Text{{},
                     "",
                     "Numeric address of the launcher's machine where agents "
                     "find it, and where alone it listens; else the one that "
                     "the way to the first host begins with."});
  s.add("launch.tls", l.tls,
        config::Text{{"auto", "on", "off"},
                     "",
                     "Whether agents and launcher speak by TLS 1.3; auto: "
                     "unless that address is of the loopback."});
  s.add("launch.lease", l.lease,
        config::Number{0.1, kYear, "seconds",
                       "Without a word, after which agent and launcher take "
                       "each other for lost."});
  s.add("launch.preflight", l.preflight,
        config::Switch{"Look at the machines before ranks are started."});
  s.add("launch.exclude_slow", l.exclude_slow,
        config::Switch{"Do without machines that the preflight finds slow or "
                       "bad, on as few as nnodes N:M allows, or on hosts "
                       "beyond the first M."});
  s.add("launch.preflight_timeout", l.preflight_timeout,
        config::Number{0.1, kYear, "seconds",
                       "For the machines to answer each of its questions."});
}

void describe_watching(config::Schema& s, LaunchConfig& l) {
  s.add("launch.max_restarts", l.max_restarts,
        config::Integer{0, kMostRestarts, "restarts",
                        "How often the ranks are started again after a "
                        "failure, from the newest checkpoint; three starts in "
                        "a row without a new one end the job (93)."});
  s.add("launch.grace_period", l.grace_period,
        config::Number{0, kYear, "seconds",
                       "Between SIGTERM and SIGKILL, for every rank."});
  s.add("launch.start_timeout", l.start_timeout,
        config::Number{0.1, kYear, "seconds", "For all ranks to meet."});
  s.add("launch.section_timeout", l.section_timeout,
        config::Number{0, kYear, "seconds",
                       "In which a rank must come further in what it does; "
                       "then it is warned of, and after as many more it is "
                       "ended as hung. 0: five times the longest seen, 30 at "
                       "least."});
  s.add("launch.time_limit", l.time_limit,
        config::Number{0, kYear, "seconds",
                       "After which the job is stopped as by Ctrl-C: 75, or "
                       "124 where nothing is saved. 0: none."});
  s.add("launch.dashboard", l.dashboard,
        config::Switch{"Serve the dashboard and /metrics while the job runs."});
  s.add("launch.dashboard_port", l.dashboard_port,
        config::Integer{0, kMostPort, "",
                        "Of the dashboard; 0: one that is free."});
  s.add("launch.dashboard_address", l.dashboard_address,
        config::Text{{},
                     "",
                     "Numeric, of the launcher's machine; 0.0.0.0: all it "
                     "has, so that whoever reaches it sees the run."});
}

void describe_run(config::Schema& s, LaunchConfig& l) {
  s.add("launch.resume", l.resume,
        config::Switch{"Go on with this configuration's last run, from its "
                       "newest valid checkpoint."});
  s.add("launch.init_from", l.init_from,
        config::Text{{},
                     "",
                     "Begin with the weights of a run, a checkpoint or a "
                     ".safetensors file, as long as there is no checkpoint."});
  s.add("launch.trace", l.trace,
        config::Text{{},
                     "",
                     "steps=A:B: write what every rank did when in these "
                     "steps to RUN/trace; `catena trace merge RUN` makes one "
                     "file of it."});
}

void check_address(config::Schema& s, const std::string& text) {
  std::array<unsigned char, sizeof(in6_addr)> bytes{};
  if (::inet_pton(AF_INET, text.c_str(), bytes.data()) != 1 &&
      ::inet_pton(AF_INET6, text.c_str(), bytes.data()) != 1) {
    s.problem(
        "launch.address",
        fmt::format("{} is no numeric address, such as 10.0.0.1 or ::1", text));
  } else if (std::all_of(bytes.begin(), bytes.end(),
                         [](unsigned char byte) { return byte == 0; })) {
    s.problem("launch.address",
              fmt::format("{} is every address, and agents look for one; leave "
                          "it out, or give one of this machine that they reach",
                          text));
  }
}

}  // namespace

void describe(config::Schema& s, LaunchConfig& l) {
  s.section(LaunchConfig::kSection,
            "How `catena launch` starts, watches and restarts ranks. Every "
            "key is a flag and a variable, too (max_restarts: --max-restarts, "
            "CATENA_MAX_RESTARTS), and these win over the file. `catena train` "
            "checks the section and goes by none of it, and a run may go on "
            "under another one.");
  describe_machines(s, l);
  describe_agents(s, l);
  describe_watching(s, l);
  describe_run(s, l);
}

void check(config::Schema& s, const LaunchConfig& l) {
  if (!l.address.empty()) check_address(s, l.address);
  for (const std::string& variable : l.env) {
    const std::string name = variable.substr(0, variable.find('='));
    if (!name.empty() && !name.starts_with("CATENA_")) continue;
    s.problem(
        "launch.env",
        fmt::format("'{}': a name is wanted, and CATENA_... are ours", name));
  }
}

}  // namespace catena
