#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "launcher/local_agent.h"
#include "launcher/preflight/probes.h"
#include "launcher/rank_layout.h"

namespace catena::launcher {

/// All agents of a job, wherever they are.
/// Thread rule: the thread that runs their context, which outlives them. Hooks
/// are called from it, and never from within a call.
class Agents {
 public:
  struct Hooks {
    std::function<void(const Report&)> reported;
    /// Nothing more comes from this process of it.
    std::function<void(int agent, const std::string& why)> gone;
    // Until set_up(), of remote agents.
    std::function<void(int agent)> connected = {};
    std::function<void(int agent, const Probed&)> probed = {};
  };

  Agents() = default;
  /// None of their processes on this machine is left.
  virtual ~Agents() = default;
  Agents(const Agents&) = delete;
  Agents& operator=(const Agents&) = delete;

  /// Each says that it is ready, or is gone; with RemoteOptions::preflight it
  /// is connected first, and ready after set_up().
  virtual void start() = 0;
  /// Asks an agent that is connected.
  virtual void probe(int /*agent*/, const Probe& /*probe*/) {}
  /// No more questions: agents, also those that come later, are told what ranks
  /// are started with. `shares`: of those that are a part of the job.
  virtual void set_up(const std::map<int, RankShare>& /*shares*/) {}
  /// Ends this agent, who is not a part of the job.
  virtual void dismiss(int /*agent*/) {}
  virtual void send(int agent, const Command& command) = 0;
  /// Starts another process in its place, as start() does. The former one is
  /// killed, if it is of this machine, and not heard any more.
  virtual void replace(int agent) = 0;
  /// Connections of strangers, as control::Server::rejected(); empty where
  /// nobody can connect.
  [[nodiscard]] virtual std::map<std::string, std::int64_t> rejected() const {
    return {};
  }
};

/// One agent, within this process: its ranks are of this machine.
[[nodiscard]] std::unique_ptr<Agents> local_agents(
    boost::asio::io_context& context, RankSetup setup, Agents::Hooks hooks);

/// How agents are started that are processes of their own.
struct RemoteOptions {
  /// Of each agent: the program that starts it, and its arguments. What it is
  /// to know it reads from its standard input (Invitation).
  std::vector<std::vector<std::string>> commands;
  std::vector<std::string> hosts;  ///< of each, for people
  /// Of each that is a part of the job, as RankSetup::share.
  std::vector<RankShare> shares;
  std::string address;  ///< numeric; where agents find the launcher
  bool tls = false;     ///< of the connections to it
  Duration lease = std::chrono::seconds(10);
  bool preflight = false;  ///< they are to be asked before they are set up
};
/// Throws: Error(kIo) where it cannot listen at `address`; Error(kUsage) where
/// the setup is more than a message holds; as control::tls_context().
[[nodiscard]] std::unique_ptr<Agents> remote_agents(
    boost::asio::io_context& context, RemoteOptions options,
    const RankSetup& setup, Agents::Hooks hooks);

/// How mpirun starts the ranks of a generation, all in one step.
struct MpiOptions {
  std::filesystem::path mpirun;
  RankLayout layout;
  bool here = true;  ///< all on this machine
};
/// One agent, within this process, of all ranks, whatever machine they are on:
/// mpirun owns them, carries what they say and write here, and is what is
/// signalled. It and its ranks of this machine die with this process; those of
/// others when its daemons there miss it.
[[nodiscard]] std::unique_ptr<Agents> mpi_agents(
    boost::asio::io_context& context, MpiOptions options, RankSetup setup,
    Agents::Hooks hooks);

}  // namespace catena::launcher
