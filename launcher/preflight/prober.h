#pragma once

#include <functional>
#include <memory>

#include "launcher/preflight/probes.h"

namespace boost::asio {
class io_context;
}

namespace catena::launcher {

/// Answers probes but ProbeListen, one after another, on a thread of its own: a
/// disk that hangs does not keep an agent from saying that it is there, nor
/// anybody from ending: the thread is left behind then.
/// Thread rule: the thread that runs `context`, where `tell` is called, too.
class Prober {
 public:
  using Tell = std::function<void(const Probed&)>;
  Prober(boost::asio::io_context& context, Tell tell);
  /// Nothing more is told.
  ~Prober();
  Prober(const Prober&) = delete;
  Prober& operator=(const Prober&) = delete;

  void ask(const Probe& probe);
  /// Whether a probe is under way, for who knows how long.
  [[nodiscard]] bool busy() const;

 private:
  struct Shared;
  static void work(const std::shared_ptr<Shared>& shared);
  static void finish(const std::shared_ptr<Shared>& shared,
                     const Probed& probed);

  std::shared_ptr<Shared> shared_;  ///< with the thread
};

}  // namespace catena::launcher
