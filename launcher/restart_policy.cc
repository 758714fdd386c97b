#include "launcher/restart_policy.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <map>

#include "launcher/contract.h"

namespace catena::launcher {
namespace {

constexpr int kDiedOfSignal = 128;
constexpr std::chrono::seconds kLongestWait(30);

/// " (section step, after step 12)", as far as it said so.
std::string where(const RankEnding& ending) {
  if (ending.section.empty()) return "";
  return fmt::format(" (section {}, after step {})", ending.section,
                     ending.step);
}

enum class Order { kByItself, kHung, kLost, kStopped };

Order order_of(const RankEnding& ending) {
  if (ending.hung) return Order::kHung;
  if (ending.stopped) return Order::kStopped;
  return ending.lost ? Order::kLost : Order::kByItself;
}

const RankEnding* find(std::span<const RankEnding> endings, int rank) {
  const auto at =
      std::find_if(endings.begin(), endings.end(),
                   [&](const RankEnding& e) { return e.rank == rank; });
  return at == endings.end() ? nullptr : &*at;
}

/// Follows whom `ending` waited for, and whom that one did, to a rank that had
/// nothing to say when it was asked to end; null where there is none.
const RankEnding* end_of_waits(std::span<const RankEnding> endings,
                               const RankEnding& ending) {
  const RankEnding* at = find(endings, ending.waits_for);
  for (std::size_t i = 0; at != nullptr && i < endings.size(); ++i) {
    if (order_of(*at) == Order::kStopped) return at;
    at = find(endings, at->waits_for);
  }
  return nullptr;
}

/// The one for whom, in the end, more than half of those waited that lost a
/// rank and said which.
const RankEnding* silent_one(std::span<const RankEnding> endings) {
  std::map<const RankEnding*, int> waiting;
  int all = 0;
  for (const RankEnding& ending : endings) {
    if (!is_failure(ending) || order_of(ending) != Order::kLost) continue;
    if (ending.waits_for < 0) continue;
    ++all;
    ++waiting[end_of_waits(endings, ending)];
  }
  for (const auto& [silent, count] : waiting) {
    if (silent != nullptr && 2 * count > all) return silent;
  }
  return nullptr;
}

/// Of two ranks that waited for each other, the one that told so first.
const RankEnding* parted_one(std::span<const RankEnding> endings) {
  for (const RankEnding& ending : endings) {
    if (!is_failure(ending) || order_of(ending) != Order::kLost) continue;
    const RankEnding* other = find(endings, ending.waits_for);
    if (other != nullptr && other->waits_for == ending.rank) return &ending;
  }
  return nullptr;
}

/// In which exchange others lost a rank, that one if it is known, or waited for
/// it.
std::string missed_in(std::span<const RankEnding> endings, int rank) {
  std::string exchange;
  int best = 0;
  for (const RankEnding& ending : endings) {
    if (ending.rank == rank || ending.waits_in.empty()) continue;
    // One that lost none may have waited for it before, and no longer.
    const int worth =
        (ending.lost ? 2 : 0) + (ending.waits_for == rank ? 1 : 0);
    if (worth <= best) continue;
    best = worth;
    exchange = ending.waits_in;
  }
  return exchange;
}

Cause did_not_reach(const RankEnding& parted) {
  return {.rank = parted.rank,
          .code = kExitInternal,
          .text = fmt::format(
              "waited for rank {0}, and rank {0} for it: what they send does "
              "not reach the other; look at the network between them{1}",
              parted.waits_for, where(parted)),
          .ending = parted};
}

Cause did_not_answer(std::span<const RankEnding> endings,
                     const RankEnding& silent) {
  std::string waited;
  for (const RankEnding& ending : endings) {
    if (ending.waits_for != silent.rank) continue;
    waited += fmt::format("{}{}", waited.empty() ? "" : ", ", ending.rank);
  }
  return {.rank = silent.rank,
          .code = kExitInternal,
          .text = fmt::format("did not answer, and rank {} waited for it{}",
                              waited, where(silent)),
          .ending = silent};
}

Duration wait_before(int without_progress) {
  if (without_progress == 0) return {};
  const int doublings = std::min(without_progress - 1, 5);
  return std::min(std::chrono::seconds(1 << doublings), kLongestWait);
}

}  // namespace

bool is_failure(const RankEnding& ending) {
  if (ending.signal != 0 || ending.hung) return true;
  if (ending.code == kExitPreempted) return false;
  return ending.code != kExitSuccess || !ending.done;
}

Cause cause_of(const RankEnding& ending) {
  Cause cause{.rank = ending.rank, .code = ending.code, .ending = ending};
  if (ending.hung) {
    cause.code = kExitInternal;
    cause.text = fmt::format("hung: it came no further for {:.3g} s{}",
                             ending.silent_seconds, where(ending));
  } else if (ending.signal != 0) {
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

namespace {

std::optional<Cause> cause_among(std::span<const RankEnding> endings) {
  const RankEnding* first = nullptr;
  for (const RankEnding& ending : endings) {
    if (!is_failure(ending)) continue;
    if (first == nullptr || order_of(ending) < order_of(*first)) {
      first = &ending;
    }
  }
  if (first == nullptr) return std::nullopt;
  if (order_of(*first) == Order::kLost) {
    const RankEnding* parted = parted_one(endings);
    if (parted != nullptr) return did_not_reach(*parted);
    const RankEnding* silent = silent_one(endings);
    if (silent != nullptr) return did_not_answer(endings, *silent);
  }
  return cause_of(*first);
}

}  // namespace

std::optional<Cause> first_cause(std::span<const RankEnding> endings) {
  std::optional<Cause> cause = cause_among(endings);
  if (cause) cause->exchange = missed_in(endings, cause->rank);
  return cause;
}

bool may_go_well(int code) {
  switch (code) {
    case kExitUsage:
    case kExitData:
    case kExitDoesNotFit:
    case kExitStorage:
    case kExitNonFinite:
    case kExitRefused:
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
