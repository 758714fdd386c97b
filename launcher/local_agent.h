#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "launcher/agent_state.h"
#include "launcher/binding.h"
#include "launcher/contact.h"
#include "launcher/messages.h"
#include "launcher/run_files.h"

namespace boost::asio {
class io_context;
}

namespace catena::launcher {

/// Which one of a job's agents this is, and how it keeps in touch.
struct AgentPlace {
  int number = 0;
  std::uint64_t incarnation = 0;  ///< see Report
  ContactRules contact = {};
};

/// What every rank of a job is started with.
struct RankSetup {
  std::filesystem::path program;
  std::vector<std::string> arguments;  ///< the program's own name first
  std::string job;                     ///< letters and digits, of it alone
  std::string token;                   ///< that its ranks share
  std::filesystem::path run;           ///< the run's folder, absolute
  Duration grace = std::chrono::seconds(30);
  Duration section_timeout = {};  ///< see SectionTimes; 0: learned
  int console_rank = 0;  ///< what it writes is seen here, too; -1: nobody
  /// Numeric, of this machine: where rank 0 is met by the others.
  std::string address = "127.0.0.1";
  std::vector<std::string> environment = {};  ///< NAME=VALUE, over its own
  Bind bind = Bind::kNone;
  RankShare share = {};  ///< the agent's, where ranks are bound
};

/// Environment of a rank, besides what launcher/contract.h has: how many starts
/// came before this one, and how many there may be (--max-restarts).
inline constexpr const char* kRestartCountVariable = "CATENA_RESTART_COUNT";
inline constexpr const char* kMaxRestartsVariable = "CATENA_MAX_RESTARTS";

/// A rank's environment: this process's without what names a rank, and with
/// what setup and start say: as launcher/contract.h has it, and as torchrun's
/// programs find it (RANK, LOCAL_RANK, MASTER_ADDR, ...).
[[nodiscard]] std::vector<std::string> rank_environment(const RankSetup& setup,
                                                        const SpawnRank& start);
/// The same without what tells ranks apart: for a program that starts them.
[[nodiscard]] std::vector<std::string> job_environment(const RankSetup& setup,
                                                       int generation);

/// The agent of this machine, within this process: does what
/// AgentState says to real processes, and tells it what they do. They die with
/// the thread that made it, however that ends.
/// One at a time in a process; nothing else of it may have children.
/// Thread rule: the thread that runs `context`, which outlives this.
class LocalAgent {
 public:
  using Tell = std::function<void(const Report&)>;
  /// Throws: as machine_here(), where ranks are to be bound.
  LocalAgent(boost::asio::io_context& context, AgentPlace place,
             RankSetup setup, Tell tell);
  /// Kills what is left.
  ~LocalAgent();
  LocalAgent(const LocalAgent&) = delete;
  LocalAgent& operator=(const LocalAgent&) = delete;

  /// Says that it is ready.
  void start();
  void receive(const Command& command);

 private:
  class Service;
  std::unique_ptr<Service> service_;
};

}  // namespace catena::launcher
