#pragma once

#include <functional>
#include <memory>

#include "launcher/preflight/preflight_state.h"

namespace boost::asio {
class io_context;
}

namespace catena::launcher {

/// Does what PreflightState says, and tells it what agents answer. Meanwhile it
/// looks at this machine, on a thread that nobody waits for: a disk that hangs
/// keeps neither agents nor the job's end waiting.
/// Thread rule: the thread that runs `context`, which outlives this.
class Preflight {
 public:
  struct Hooks {
    /// Without calling back at once.
    std::function<void(int agent, const Probe&)> ask;
    /// Once. What this machine has; null: it did not answer in probe_time.
    std::function<void(const PreflightState&, const MachineFacts*)> done;
  };
  Preflight(boost::asio::io_context& context, PreflightOptions options,
            Hooks hooks);
  ~Preflight();

  void begin();
  /// There are no agents: this machine is the only one, and is looked at.
  void begin_alone();
  void came(int agent);
  void went(int agent, const std::string& why);
  void answered(int agent, const Probed& probed);
  /// Whom it waits for is said.
  void inspect() const;

 private:
  class Service;
  std::unique_ptr<Service> service_;
};

}  // namespace catena::launcher
