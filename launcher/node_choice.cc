#include "launcher/node_choice.h"

#include <algorithm>
#include <charconv>
#include <string_view>

#include "runtime/base/error.h"

namespace catena::launcher {
namespace {

constexpr int kMostNodes = 65536;

int parse_count(std::string_view flag, std::string_view all,
                std::string_view text) {
  int count = 0;
  const auto [end, error] =
      std::from_chars(text.data(), text.data() + text.size(), count);
  if (error != std::errc() || end != text.data() + text.size() || count < 1 ||
      count > kMostNodes) {
    fail(ErrorKind::kUsage, "{} {}: '{}' is no number from 1 to {}", flag, all,
         text, kMostNodes);
  }
  return count;
}

struct Range {
  int least, most;
};

Range parse_nodes(std::string_view text) {
  const auto colon = text.find(':');
  const int least = parse_count("--nnodes", text, text.substr(0, colon));
  const int most = colon == std::string_view::npos
                       ? least
                       : parse_count("--nnodes", text, text.substr(colon + 1));
  if (least > most) {
    fail(ErrorKind::kUsage, "--nnodes {}: the fewest come first, as in {}:{}",
         text, most, least);
  }
  return {least, most};
}

/// All slots together; 0: some host does not say them.
int all_slots(const std::vector<Host>& hosts) {
  int sum = 0;
  for (const Host& host : hosts) {
    if (host.slots == 0) return 0;
    sum += host.slots;
  }
  return sum;
}

int count_ranks(const NodeRequest& request, int machines) {
  const int slots = all_slots(request.hosts);
  if (request.ranks_per_node.empty()) {
    if (request.ranks > 0) return request.ranks;
    return slots > 0 ? slots : machines;
  }
  if (request.ranks > 0) {
    fail(ErrorKind::kUsage,
         "-n {} and --nproc-per-node {}: say one of them; the other follows "
         "from it",
         request.ranks, request.ranks_per_node);
  }
  if (request.ranks_per_node != "auto") {
    return machines * parse_count("--nproc-per-node", request.ranks_per_node,
                                  request.ranks_per_node);
  }
  return slots > 0 ? slots : machines * request.cores;
}

/// Returns the others, where they are wanted.
std::vector<Host> take_first_hosts(NodeRequest& request, int machines) {
  const auto count = static_cast<std::size_t>(machines);
  if (count > request.hosts.size()) {
    fail(ErrorKind::kUsage, "--nnodes {}, and there are {} hosts",
         request.nodes, request.hosts.size());
  }
  const auto first = request.hosts.begin() + static_cast<std::ptrdiff_t>(count);
  std::vector<Host> others;
  if (request.spares) others.assign(first, request.hosts.end());
  request.hosts.erase(first, request.hosts.end());
  return others;
}

/// A machine that is lost takes as many ranks with it whichever it is.
void check_elastic(const NodeRequest& request, int ranks, int machines) {
  const bool uneven = std::any_of(
      request.hosts.begin(), request.hosts.end(), [&](const Host& host) {
        return host.slots != request.hosts.front().slots;
      });
  const int slots = all_slots(request.hosts);
  const bool fill = slots == 0 || slots == ranks;
  if (ranks % machines == 0 && !uneven && fill) return;
  fail(ErrorKind::kUsage,
       "--nnodes {} with {} ranks: every machine must have as many as any "
       "other; say --nproc-per-node, and the same slots for all hosts, all of "
       "them taken, or none",
       request.nodes, ranks);
}

/// The engine that was asked for; where none was, the one that the hosts, or
/// the allocation, need.
Engine engine_of(const NodeRequest& request) {
  for (const Engine engine : kEngines) {
    if (request.engine == name_of(engine)) return engine;
  }
  if (!request.hosts.empty()) return Engine::kSsh;
  const Allocation& allocation = request.allocation;
  const bool elsewhere =
      !allocation.nodes.empty() && !is_here(allocation) && request.agents == 0;
  return elsewhere ? Engine::kSlurm : Engine::kLocal;
}

void check_engine(Engine engine, const NodeRequest& request) {
  const bool hosts = !request.hosts.empty();
  if (engine == Engine::kSsh && !hosts) {
    fail(ErrorKind::kUsage,
         "--engine ssh: say with --hosts or --hostfile to which machines");
  }
  if (hosts && engine != Engine::kSsh && engine != Engine::kMpi) {
    fail(ErrorKind::kUsage,
         "--engine {}: --hosts and --hostfile are for --engine ssh or mpi",
         name_of(engine));
  }
  if (engine != Engine::kLocal && request.agents > 0) {
    fail(ErrorKind::kUsage, "--engine {}: --agents is for --engine local",
         name_of(engine));
  }
  if (engine == Engine::kMpi && request.spares) {
    fail(ErrorKind::kUsage,
         "--engine mpi: --exclude-slow needs an agent on every machine, and "
         "mpirun has none: leave it out, or take another engine");
  }
  if (engine == Engine::kSlurm && request.allocation.nodes.empty()) {
    fail(ErrorKind::kUsage,
         "--engine slurm: this is no allocation of Slurm (SLURM_JOB_NODELIST "
         "is not set); call it in a script for sbatch, or by salloc");
  }
}

/// Tasks stand for ranks; whoever says how many a node has is believed.
void take_allocation(NodeRequest& request) {
  request.hosts = request.allocation.nodes;
  if (request.ranks_per_node.empty() || request.ranks_per_node == "auto") {
    return;
  }
  for (Host& host : request.hosts) host.slots = 0;
}

}  // namespace

NodeChoice choose_nodes(NodeRequest request) {
  const Engine engine = engine_of(request);
  check_engine(engine, request);
  const bool mpi = engine == Engine::kMpi && request.hosts.empty();
  const bool alone = (engine == Engine::kLocal && request.agents == 0) ||
                     (mpi && (request.allocation.nodes.empty() ||
                              is_here(request.allocation)));
  if (engine == Engine::kSlurm || mpi ||
      (alone && is_here(request.allocation))) {
    take_allocation(request);
  }
  Range nodes{0, 0};
  NodeChoice choice;
  if (!request.nodes.empty()) {
    nodes = parse_nodes(request.nodes);
    if (!request.hosts.empty()) {
      choice.spare_hosts = take_first_hosts(request, nodes.most);
    } else if (request.agents != nodes.most) {
      fail(ErrorKind::kUsage,
           "--nnodes {}: say with --hosts or --hostfile which machines, or "
           "with --agents {} that this one stands for them",
           request.nodes, nodes.most);
    }
  }
  const int machines = request.hosts.empty()
                           ? std::max(1, request.agents)
                           : static_cast<int>(request.hosts.size());
  choice.engine = engine;
  choice.ranks = count_ranks(request, machines);
  choice.agents = request.agents;
  if (nodes.least < nodes.most) {
    if (engine == Engine::kMpi) {
      fail(ErrorKind::kUsage,
           "--nnodes {}: mpirun has the same machines at every start; say how "
           "many, or take another engine",
           request.nodes);
    }
    check_elastic(request, choice.ranks, machines);
    choice.least_agents = nodes.least;
  }
  if (!alone) choice.hosts = std::move(request.hosts);
  return choice;
}

}  // namespace catena::launcher
