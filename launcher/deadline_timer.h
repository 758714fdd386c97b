#pragma once

#include <boost/asio/steady_timer.hpp>
#include <functional>
#include <optional>
#include <utility>

#include "launcher/messages.h"

namespace catena::launcher {

/// Waits for the next deadline of a state machine.
/// Thread rule: the thread that runs `context`, which outlives this.
class DeadlineTimer {
 public:
  explicit DeadlineTimer(boost::asio::io_context& context) : timer_(context) {}

  /// Calls `passed` at `deadline`, in place of what was set before; without one
  /// it waits for nothing.
  void set(const std::optional<Time>& deadline, std::function<void()> passed) {
    timer_.cancel();
    if (!deadline) return;
    timer_.expires_at(*deadline);
    timer_.async_wait(
        [passed = std::move(passed)](const boost::system::error_code& error) {
          if (!error) passed();
        });
  }

 private:
  boost::asio::steady_timer timer_;
};

}  // namespace catena::launcher
