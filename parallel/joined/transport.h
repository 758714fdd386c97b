#pragma once

#include <chrono>
#include <cstddef>
#include <memory>
#include <string>

#include "parallel/store.h"
#include "parallel/transport.h"

namespace catena::joined {

struct Options {
  /// As of gloo::Options.
  std::string address = "127.0.0.1";
  /// As of shared_memory::Options.
  std::string token = {};
  std::size_t pool_bytes = 0;
  /// As of shared_memory::NeighbourOptions: ranks that say different nodes
  /// share no memory.
  std::string node = {};
  /// For the others, at each of the steps to find and join them.
  std::chrono::duration<double> deadline{60};
};

/// Joins ranks, each a process, of any number of nodes: those that can share
/// memory by that, all others by Gloo. Where all can, there is no Gloo, and
/// where none can, no shared memory. allocate() gives shared memory where there
/// is some; Gloo sends from it, too.
///
/// A rank that dies is named by those of its node in some 10 ms if they wait
/// for it, by those of others as soon as its connection is lost; whoever
/// knows tells all on both ways.
/// Thread rule: as shared_memory::join().
/// Throws: as shared_memory::find_neighbours() and join(), gloo::connect().
[[nodiscard]] std::unique_ptr<Transport> connect(int rank, int size,
                                                 Store& store,
                                                 const Options& options);

}  // namespace catena::joined
