#include "launcher/restart_policy.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "launcher/contract.h"

namespace catena::launcher {
namespace {

constexpr int kDiedOfSignal = 128;
constexpr std::chrono::seconds kLongestWait(30);

int rank_of_cause(const RankEnding& ending) {
  if (ending.stopped) return 2;
  return ending.lost ? 1 : 0;
}

Duration wait_before(int without_progress) {
  if (without_progress == 0) return {};
  const int doublings = std::min(without_progress - 1, 5);
  return std::min(std::chrono::seconds(1 << doublings), kLongestWait);
}

}  // namespace

bool is_failure(const RankEnding& ending) {
  if (ending.signal != 0) return true;
  if (ending.code == kExitPreempted) return false;
  return ending.code != kExitSuccess || !ending.done;
}

Cause cause_of(const RankEnding& ending) {
  Cause cause{.rank = ending.rank, .code = ending.code, .ending = ending};
  if (ending.signal != 0) {
    cause.code = kDiedOfSignal + ending.signal;
    cause.text = fmt::format("was killed by signal {} ({})", ending.signal,
                             ::strsignal(ending.signal));
  } else if (ending.code == kExitSuccess) {
    cause.code = kExitInternal;
    cause.text = "ended with code 0 before its work was done";
  } else if (ending.process == 0) {
    cause.text = "could not be started";
  } else {
    cause.text = fmt::format("ended with code {}", ending.code);
  }
  return cause;
}

const RankEnding* first_cause(std::span<const RankEnding> endings) {
  const RankEnding* first = nullptr;
  for (const RankEnding& ending : endings) {
    if (!is_failure(ending)) continue;
    if (first == nullptr || rank_of_cause(ending) < rank_of_cause(*first)) {
      first = &ending;
    }
  }
  return first;
}

bool may_go_well(int code) {
  switch (code) {
    case kExitUsage:
    case kExitData:
    case kExitDoesNotFit:
    case kExitStorage:
    case kExitNonFinite:
    case kExitConfig:
    case kExitNoProgress:
    case kExitNotExecutable:
    case kExitNotFound:
      return false;
    default:
      return true;
  }
}

Verdict judge(RestartPolicy& policy, const Cause& cause,
              std::int64_t checkpoint_step) {
  if (!may_go_well(cause.code)) {
    return {.code = cause.code, .why = "another start would meet the same"};
  }
  const bool progress = checkpoint_step > policy.checkpoint_step;
  policy.checkpoint_step = std::max(policy.checkpoint_step, checkpoint_step);
  policy.without_progress = progress ? 0 : policy.without_progress + 1;
  if (policy.restarts >= policy.most_restarts) {
    return {.code = cause.code,
            .why = policy.most_restarts == 0
                       ? "no restarts were allowed (--max-restarts 0)"
                       : fmt::format("all {} restarts are used up",
                                     policy.most_restarts)};
  }
  if (policy.without_progress >= policy.most_without_progress) {
    return {
        .code = kExitNoProgress,
        .why = fmt::format("{} starts in a row made no checkpoint; restarts "
                           "do not help",
                           policy.without_progress)};
  }
  ++policy.restarts;
  return {.restart = true, .wait = wait_before(policy.without_progress)};
}

}  // namespace catena::launcher
