#pragma once

#include <boost/asio/signal_set.hpp>
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
  /// left alone.
  void kill(int process);
  void kill_all();
  /// Waits until none is watched any more, `most` at most.
  void wait_for_all(Duration most);

 private:
  void wait_for_signal();
  void reap(const std::function<void(Ended&, int status)>& tell);

  boost::asio::signal_set signals_;
  std::map<int, Ended> watched_;
};

}  // namespace catena::launcher
