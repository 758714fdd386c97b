#pragma once

#include <functional>
#include <string>

#include "bench/exchange_mpi.h"
#include "parallel/store.h"

namespace catena::bench {

/// One of two ranks of this node.
struct TwoRanks {
  Store& store;
  std::string token;  ///< names what both share
  int rank;
  MpiExchange* mpi;  ///< null where mpirun did not start them
};

/// Calls `measure` in two processes: those that mpirun started, or this one
/// and a child of it. Returns the exit code.
int run_two_ranks(const std::function<void(const TwoRanks&)>& measure);

}  // namespace catena::bench
