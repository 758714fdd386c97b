#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "parallel/store.h"
#include "parallel/transport.h"
#include "runtime/base/error.h"
#include "tests/parallel/ranks.h"

namespace catena::testing {

/// Makes the transport of one rank, in its own process. The store is that of
/// rank 0 (parallel/tcp/store.h).
using MakeTransport =
    std::function<std::unique_ptr<Transport>(int rank, int size, Store& store)>;

/// How the process of a rank ended.
struct RankEnd {
  /// What work threw, and when: seconds since all began.
  std::optional<ErrorKind> error;
  std::string text;
  double seconds = 0;
  /// 0; or the signal that ended it, SIGSTOP if it stood still to the end.
  int signal = 0;
};

/// Forks a process a rank and runs work(transport) in each. What it throws is
/// told to the others by abandon(). Failed expectations become those of the
/// caller. Processes that have not ended within `limit` are killed, which is
/// a failure; one that is stopped is killed when all others have ended.
/// To be called while this process has one thread.
[[nodiscard]] std::vector<RankEnd> run_processes(
    int size, const MakeTransport& make,
    const std::function<void(Transport&)>& work,
    std::chrono::duration<double> limit = std::chrono::seconds(60));

/// Ranks as such processes. The first exception is thrown again: of those that
/// do not only repeat what another rank said, as long as there are any. A
/// process that was ended by a signal is a failure.
[[nodiscard]] RankRunner process_ranks(std::string name, MakeTransport make);

}  // namespace catena::testing
