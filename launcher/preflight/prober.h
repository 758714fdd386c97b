#pragma once

#include <deque>
#include <functional>
#include <thread>

#include "launcher/preflight/probes.h"

namespace boost::asio {
class io_context;
}

namespace catena::launcher {

/// Answers probes but ProbeListen, one after another, on a thread of its own: a
/// disk that hangs does not keep an agent from saying that it is there. Thread
/// rule: the thread that runs `context`, where `tell` is called, too.
class Prober {
 public:
  using Tell = std::function<void(const Probed&)>;
  Prober(boost::asio::io_context& context, Tell tell);
  /// Waits for the probe under way.
  ~Prober();
  Prober(const Prober&) = delete;
  Prober& operator=(const Prober&) = delete;

  void ask(const Probe& probe);
  /// Whether a probe is under way, for who knows how long.
  [[nodiscard]] bool busy() const { return !waiting_.empty(); }

 private:
  void work();
  void finish(const Probed& probed);

  boost::asio::io_context& context_;
  const Tell tell_;
  std::deque<Probe> waiting_;  ///< the first one is under way
  std::thread thread_;
};

}  // namespace catena::launcher
