#include "launcher/mpi_ending.h"

#include <sys/wait.h>

#include <algorithm>
#include <csignal>

#include "launcher/contract.h"
#include "launcher/mpi_step.h"

namespace catena::launcher {
namespace {

constexpr int kDiedOfSignal = 128;

using Ranks = std::map<int, RankState>;

std::vector<MpiEnding> all_with(const Ranks& ranks, const MpiEnding& ending) {
  std::vector<MpiEnding> endings;
  for (const auto& entry : ranks) {
    endings.push_back(ending);
    endings.back().rank = entry.first;
  }
  return endings;
}

int first_not_done(const Ranks& ranks) {
  const auto at = std::find_if(ranks.begin(), ranks.end(), [](const auto& r) {
    return !r.second.ending.done;
  });
  return at == ranks.end() ? ranks.begin()->first : at->first;
}

/// mpirun does not always say whose code it ends with.
MpiFailure unnamed(int code, const Ranks& ranks) {
  const int rank = first_not_done(ranks);
  if (code > kDiedOfSignal) {
    return {.rank = rank, .signal = code - kDiedOfSignal};
  }
  return {.rank = rank, .code = code};
}

/// Where one hung, all were asked to end.
void mark_stopped(Ranks& ranks) {
  const bool hung = std::any_of(ranks.begin(), ranks.end(), [](const auto& r) {
    return r.second.ending.hung;
  });
  for (auto& [number, rank] : ranks) rank.ending.stopped |= hung;
}

}  // namespace

std::vector<MpiEnding> endings_of(const MpiEnd& end, Ranks& ranks) {
  if (ranks.empty()) return {};
  mark_stopped(ranks);
  if (WIFSIGNALED(end.status)) {
    return all_with(ranks, {.signal = WTERMSIG(end.status),
                            .words = "mpirun ended, and all ranks with it",
                            .unnamed = true});
  }
  const int code = WEXITSTATUS(end.status);
  if (code == kExitSuccess || code == kExitPreempted) {
    return all_with(ranks, {.code = code});
  }
  const std::string said(end.said);
  const auto named = first_failure(said);
  if (!named && end.spoke.empty()) {
    for (auto& [number, rank] : ranks) rank.ending.process = 0;
    return all_with(ranks, {.code = kExitNotAssembled, .words = said});
  }
  const MpiFailure failure = named.value_or(unnamed(code, ranks));
  std::vector<MpiEnding> endings;
  for (auto& [number, rank] : ranks) {
    if (number == failure.rank) {
      endings.push_back({.rank = number,
                         .code = failure.code,
                         .signal = failure.signal,
                         .words = said,
                         .unnamed = !named && !said.empty()});
      continue;
    }
    rank.ending.stopped = true;
    endings.push_back({.rank = number, .signal = SIGTERM});
  }
  return endings;
}

}  // namespace catena::launcher
