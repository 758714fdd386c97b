#pragma once

#include <filesystem>
#include <functional>
#include <memory>

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
    /// Step of the newest checkpoint there is; 0: none.
    std::function<std::int64_t()> checkpoint_step;
    /// After every change of phase, the last one included.
    std::function<void(const JobState&)> changed;
  };
  Coordinator(boost::asio::io_context& context, JobOptions options,
              Hooks hooks);
  ~Coordinator();

  void begin();
  void receive(const Report& report);
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
