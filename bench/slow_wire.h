#pragma once

#include <array>
#include <string>

#include "parallel/tcp/endpoint.h"

namespace catena::bench {

/// A wire between two ranks of this machine that is slow and real: a pair of
/// virtual Ethernet devices, each in a network namespace of its own, each of
/// which sends through a token bucket (tc-tbf). The kernel lets bytes wait; no
/// core does.
///
/// The namespaces have no names: they go when the last process that holds them
/// ends, however it ends. Needs root, and `ip` and `tc` (iproute2).
/// Thread rule: the only thread of the process.
class SlowWire {
 public:
  /// Throws: Unsupported, saying what cannot be made here and why.
  SlowWire();
  ~SlowWire();
  SlowWire(const SlowWire&) = delete;
  SlowWire& operator=(const SlowWire&) = delete;

  /// Of each direction, with the headers of TCP and Ethernet.
  void set_rate(double bytes_per_second);

  /// The calling process, a rank's, lives at that end from now on.
  void enter(int rank) const;
  /// Where rank 0 can be met, as enter() has put it.
  [[nodiscard]] static tcp::Endpoint meeting_point();

 private:
  /// Runs a command of a shell at one end.
  void at(int end, const std::string& command) const;

  int home_ = -1;
  std::array<int, 2> ends_ = {-1, -1};
};

}  // namespace catena::bench
