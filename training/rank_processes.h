#pragma once

#include <chrono>
#include <functional>

#include "parallel/transport.h"

namespace catena {

/// How ranks that are processes of this machine are run.
struct RankProcesses {
  int ranks = 2;
  /// Once one has failed, the others have so long to notice and end; then
  /// they are killed.
  std::chrono::duration<double> patience{300};
};

/// Runs work(transport) in processes of their own, one a rank, joined by
/// shared memory, and returns when all have ended. What work() returns, or
/// what its exception stands for, is the process's exit code. SIGINT and
/// SIGTERM are passed on. No process outlives this one.
///
/// Returns 0 if all returned 0; else the code of the rank that failed first,
/// after one message that names it and says what it said. Every rank's own
/// message is in its log.
/// Thread rule: the only thread of the process.
int run_rank_processes(const RankProcesses& options,
                       const std::function<int(Transport&)>& work);

}  // namespace catena
