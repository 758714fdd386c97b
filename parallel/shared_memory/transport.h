#pragma once

#include <chrono>
#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "parallel/slot_transport.h"
#include "parallel/store.h"

namespace catena::shared_memory {

struct Options {
  /// Letters and digits; the same for all ranks, and for no other start of
  /// any run on this machine. Names in /dev/shm begin with catena-TOKEN-.
  std::string token = {};
  /// The ranks of this node, ascending; empty: all.
  std::vector<int> members = {};
  /// For how long to wait for the others to join.
  std::chrono::duration<double> deadline{60};
  /// The most that one rank can allocate(), the same for all. Room among
  /// addresses, not memory: that is taken as it is asked for. 0: the size of
  /// /dev/shm.
  std::size_t pool_bytes = 0;
};

/// The wire between processes of one node: slots and pools in segments of
/// POSIX shared memory, one a rank, mapped by all. Messages between places of
/// allocate() are copied once.
///
/// Returns when all members have joined. From then on the segments have no
/// names: whatever kills the ranks, nothing is left. Ranks that are killed
/// before may leave names: see sweep(). Whoever joins next, of the same user,
/// removes those that are left of any run.
/// A rank that is killed later is noticed by those that wait for it within
/// some 10 ms, and named.
/// Thread rule: the thread that joins is the one that uses it and ends it;
/// with this thread the rank dies. Not to be used after fork().
/// Throws: DoesNotFit when /dev/shm is too small; Timeout, Communication,
/// naming the rank that has not joined; Io.
[[nodiscard]] std::unique_ptr<SlotTransport> join(Store& store, int rank,
                                                  int size,
                                                  const Options& options);

/// Removes the names that ranks of this token have left when they were killed
/// while they joined. For their parent, when all have ended. Returns them.
/// Throws: Io.
std::vector<std::string> sweep(std::string_view token);

}  // namespace catena::shared_memory
