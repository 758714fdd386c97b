#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <string>

#include "launcher/job_state.h"

namespace boost::asio {
class io_context;
}

namespace catena::launcher {

/// Runs a job: does what JobState says, and tells it what agents report. It
/// touches no process, and knows agents by what `send` delivers to them.
/// Thread rule: the thread that runs `context`, which outlives this.
class Coordinator {
 public:
  struct Hooks {
    /// Delivers to an agent, without calling back at once.
    std::function<void(int agent, const Command&)> send;
    /// Starts another process in the place of an agent, and hears no more of
    /// the former one. Without calling back at once.
    std::function<void(int agent)> replace;
    /// Step of the newest checkpoint there is; 0: none.
    std::function<std::int64_t()> checkpoint_step;
    /// Told of before anything is done for it.
    std::function<void(const JobState&, const Moved&)> moved;
    std::function<void(const RankEnded&)> rank_ended;
    /// After every change of phase, the last one included.
    std::function<void(const JobState&)> changed;
  };
  Coordinator(boost::asio::io_context& context, JobOptions options,
              Hooks hooks);
  ~Coordinator();

  /// The time for agents to be ready counts from `since`, the job's own from
  /// `launched`.
  void begin(Time since, Time launched);
  void receive(const Report& report);
  /// As launcher::agent_gone().
  void agent_gone(int agent, const std::string& why);
  void stop(int signal);
  /// Ranks that run save, and go on.
  void save();
  /// How the job is, and every rank, is said; and ranks write their stacks.
  void inspect();
  [[nodiscard]] const JobState& state() const;

 private:
  class Service;
  std::unique_ptr<Service> service_;
};

}  // namespace catena::launcher
