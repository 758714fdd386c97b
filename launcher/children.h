#pragma once

#include <boost/asio/signal_set.hpp>
#include <chrono>
#include <functional>
#include <map>

#include "launcher/messages.h"

namespace catena::launcher {

/// The processes that this one has started and watches: says when one ends, and
/// leaves none behind. Each leads a process group of its own. Children that
/// nobody watches, which the others have left to this process, are reaped too.
/// One at a time in a process; whoever else has children there loses them.
/// Thread rule: the thread that runs `context`, which outlives this.
/// How: ninja-build/ninja, src/subprocess-posix.cc.
class Children {
 public:
  /// With what waitpid() said. The child has been reaped, and what was left of
  /// its group was sent SIGKILL before: only so long does nobody else have its
  /// number.
  using Ended = std::function<void(int status)>;

  explicit Children(boost::asio::io_context& context);
  /// As kill_all().
  ~Children();
  Children(const Children&) = delete;
  Children& operator=(const Children&) = delete;

  /// `ended` is called once, from the context, unless one of the functions
  /// below has reaped the child.
  void watch(int process, Ended ended);
  /// Whether any is watched.
  [[nodiscard]] bool empty() const { return watched_.empty(); }

  /// Kills one with its group, and reaps it; a number that is not watched is
  /// left alone. One that the kernel does not end within kPatience, as its file
  /// system hangs, is left to it, with a warning, and reaped later.
  void kill(int process);
  /// The same of all, at once.
  void kill_all();
  static constexpr std::chrono::seconds kPatience{3};
  /// Waits until none is watched any more, `most` at most.
  void wait_for_all(Duration most);

 private:
  void wait_for_signal();
  void reap(const std::function<void(Ended&, int status)>& tell);

  boost::asio::signal_set signals_;
  std::map<int, Ended> watched_;
};

}  // namespace catena::launcher
