#pragma once

#include <functional>
#include <memory>

#include "parallel/slot_transport.h"

namespace catena::local {

/// What the ranks of one process share: see transport.cc.
class World;

/// The wire between threads of one process: slots in memory that is theirs
/// anyway. For tests, debuggers, `catena verify`.
///   const auto world = make_world(4);
///   thread r:  const auto transport = join(world, r);
[[nodiscard]] std::shared_ptr<World> make_world(int size);
[[nodiscard]] std::unique_ptr<SlotTransport> join(std::shared_ptr<World> world,
                                                  int rank);

/// Runs work(transport) once a rank, each on a thread of its own, and returns
/// when all have ended. When one throws, the others are told; the first
/// exception is thrown again.
void run_ranks(int size, const std::function<void(Transport&)>& work);

}  // namespace catena::local
