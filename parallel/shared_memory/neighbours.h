#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "parallel/store.h"

namespace catena::shared_memory {

struct NeighbourOptions {
  /// As of Options in transport.h.
  std::string token = {};
  /// Which node this rank takes itself to be on, in any words; ranks that say
  /// another are on others. Empty: as whoever says nothing.
  std::string node = {};
  /// For each of the others to come.
  std::chrono::duration<double> deadline{60};
};

/// Finds which of the ranks can share memory: those that say the same node and
/// see one /dev/shm. Nothing else is believed, as containers of one machine may
/// have its name, and machines with one name may be two. Each rank makes a name
/// there that nobody else has, and looks for those of the others, of the same
/// user.
/// Returns for every rank the lowest one that shares its memory, the same on
/// all. A rank that cannot write to /dev/shm is alone, and says why.
/// All call this together. Names are gone afterwards; ranks that are killed
/// meanwhile may leave theirs, see sweep().
/// Throws: Timeout and Communication, naming the rank that has not come; Io.
[[nodiscard]] std::vector<int> find_neighbours(Store& store, int rank, int size,
                                               const NeighbourOptions& options);

}  // namespace catena::shared_memory
