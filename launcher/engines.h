#pragma once

#include <array>
#include <string>
#include <vector>

#include "launcher/hosts.h"

namespace catena::launcher {

/// Who starts a job's agents.
enum class Engine {
  kLocal,  ///< this program, on this machine
  kSsh,    ///< ssh, on hosts that are named
  kSlurm,  ///< srun, on the nodes of the allocation that this is called in
  kMpi,    ///< none: mpirun starts the ranks themselves
};
inline constexpr std::array kEngines = {Engine::kLocal, Engine::kSsh,
                                        Engine::kSlurm, Engine::kMpi};
[[nodiscard]] const char* name_of(Engine engine);  ///< "slurm"

/// Commands of this program that its launcher calls, and nobody else.
inline constexpr const char* kAgentCommand = "agent";
inline constexpr const char* kBoundCommand = "bound";
[[nodiscard]] std::string own_path();  ///< of this program

/// The command, of this machine, that starts an agent there. It has no shell
/// with data in it; what an agent is to know goes over its standard input.
///
///   kLocal  PROGRAM agent
///   kSsh    ssh HOST 'PROGRAM agent', without a password, a terminal or
///           forwarding. Whether a host's key is trusted is ssh's own
///           configuration.
///   kSlurm  srun ... --nodelist=HOST PROGRAM agent: a step of its own, so that
///           one agent can be replaced while others go on. Its ranks have all
///           of the node that the allocation has.
///   kMpi    nothing
///
/// PROGRAM is this program's own path, which must be the same there.
/// Throws: Usage where, for kSsh, the path holds what a shell could take for
/// more than a word.
[[nodiscard]] std::vector<std::string> agent_command(Engine engine,
                                                     const Host& host);

/// An allocation of Slurm.
struct Allocation {
  std::vector<Host> nodes = {};  ///< slots: its tasks; none: it is none
  std::string here = {};         ///< the node that this process is on, or ""
};
/// The one that this process is in: what Slurm's variables say.
/// Throws: Config where they cannot be read.
[[nodiscard]] Allocation slurm_allocation();
/// Whether it is this machine alone.
[[nodiscard]] bool is_here(const Allocation& allocation);

/// Whether nothing that goes to this numeric address leaves the machine.
[[nodiscard]] bool is_loopback(const std::string& address);

/// The numeric address of this machine from which packets go to these hosts:
/// the first that is not of the loopback, as one of them may be this
/// machine. Not empty.
/// Throws: Usage where a name is unknown or there is no way.
[[nodiscard]] std::string address_towards(const std::vector<Host>& hosts);

}  // namespace catena::launcher
