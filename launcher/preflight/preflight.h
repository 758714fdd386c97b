#pragma once

#include <functional>
#include <memory>

#include "launcher/preflight/preflight_state.h"

namespace boost::asio {
class io_context;
}

namespace catena::launcher {

/// Does what PreflightState says, and tells it what agents answer.
/// Thread rule: the thread that runs `context`, which outlives this.
class Preflight {
 public:
  struct Hooks {
    /// Without calling back at once.
    std::function<void(int agent, const Probe&)> ask;
    std::function<void(const PreflightState&)> done;  ///< once
  };
  Preflight(boost::asio::io_context& context, PreflightOptions options,
            Hooks hooks);
  ~Preflight();

  void begin();
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
