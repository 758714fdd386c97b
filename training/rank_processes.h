#pragma once

#include <chrono>
#include <functional>

#include "training/member.h"

namespace catena {

/// How ranks that are processes of this machine are run.
struct RankProcesses {
  int ranks = 2;
  Wire wire = Wire::kSharedMemory;  ///< or kGloo, over this machine's loopback
  /// Once one has failed, the others have so long to notice and end; then
  /// they are killed.
  std::chrono::duration<double> patience{300};
};

/// What a rank does once it has joined the others; its exit code.
using RankWork = std::function<int(Member&)>;

/// Runs work(member) in processes of their own, one a rank, and returns when
/// all have ended. What work() returns, or
/// what its exception stands for, is the process's exit code. SIGINT and
/// SIGTERM are passed on. No process outlives this one.
///
/// Returns 0 if all returned 0; else the code of the rank that failed first,
/// after one message that names it and says what it said. Every rank's own
/// message is in its log.
/// Thread rule: the only thread of the process.
int run_rank_processes(const RankProcesses& options, const RankWork& work);

}  // namespace catena
