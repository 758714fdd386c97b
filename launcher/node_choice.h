#pragma once

#include <string>
#include <vector>

#include "launcher/engines.h"
#include "launcher/hosts.h"

namespace catena::launcher {

/// What a command line says of machines and ranks; 0 and "": nothing.
struct NodeRequest {
  int ranks = 0;                    ///< -n
  std::string nodes = {};           ///< --nnodes, "2" or "1:4"
  std::string ranks_per_node = {};  ///< --nproc-per-node, "8" or "auto"
  int agents = 0;                   ///< --agents
  std::vector<Host> hosts = {};
  int cores = 1;  ///< of this machine
  std::string engine = "auto";
  Allocation allocation = {};  ///< that this is called in
  bool spares = false;         ///< hosts beyond --nnodes may take a place
};

/// What is meant by it.
struct NodeChoice {
  Engine engine = Engine::kLocal;
  int ranks = 1;
  int agents = 0;        ///< of this machine; 0: the launcher is the only one
  int least_agents = 0;  ///< enough to go on with; 0: all
  std::vector<Host> hosts = {};
  std::vector<Host> spare_hosts = {};  ///< that follow
};

/// The engine "auto" is ssh where there are hosts; else slurm in an allocation,
/// unless that is this machine alone or there are agents; else local. Slurm's
/// hosts are the allocation's nodes, its tasks their slots; an allocation that
/// is this machine alone has local ranks, also one a task. So it is for mpi,
/// which also takes hosts.
///
/// The first M of the hosts where --nnodes says N:M, and the others as spare
/// ones where these are wanted; agents must be M. Ranks
/// are -n; or M times --nproc-per-node, where "auto" means the hosts' slots, or
/// one rank for each of `cores`; or the hosts' slots; or one. Where N is less
/// than M every machine has as many ranks as any other. Throws: Error(kUsage).
[[nodiscard]] NodeChoice choose_nodes(NodeRequest request);

}  // namespace catena::launcher
