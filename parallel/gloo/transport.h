#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "parallel/store.h"
#include "parallel/transport.h"

namespace catena::gloo {

struct Options {
  /// A numeric address of this machine that the others reach. Gloo's own
  /// connections prove nothing of themselves: keep them off networks where
  /// strangers are.
  std::string address = "127.0.0.1";
  /// Goes before every key in the store, so that one store serves many worlds.
  std::string prefix = "";
  /// To find all others, and at the end to hand over what they still need.
  std::chrono::duration<double> deadline{60};
  /// Ranks with which there is no connection: they are reached otherwise. Each
  /// of them says the same of this one.
  std::vector<int> without = {};
};

/// Whether this build has Gloo.
[[nodiscard]] bool available();
/// Throws: Unsupported, if it has not.
void require();

/// Joins ranks, each a process, over TCP by the Gloo library: two
/// connections between each two, one for each direction. `store` is needed
/// until all have returned.
///
/// Two threads are made: Gloo's, which moves bytes, and one that tells senders
/// what has come while this rank computes. progress() rests for microseconds
/// when nothing moves, so that they get a core. SIGPIPE is ignored from here
/// on. A rank that dies is noticed by its connection, one that stands still
/// only by the deadline of what waits for it.
///
/// A short message is through at once. So destroying the transport waits until
/// all have come, unless an exception does it or a rank has failed, at most
/// `deadline`; and then up to two seconds for the others to end, too, so that
/// none of them mistakes the end for a death.
///
/// Throws: Unsupported when built without Gloo; Config (address); Timeout and
/// Communication, naming the rank that did not come.
[[nodiscard]] std::unique_ptr<Transport> connect(int rank, int size,
                                                 Store& store,
                                                 const Options& options);

}  // namespace catena::gloo
