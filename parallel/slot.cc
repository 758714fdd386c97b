#include "parallel/slot.h"

namespace catena {
namespace {

// So that a claim is worth its exchange of a cache line, and the one who helps
// does not keep the other waiting for long.
constexpr std::int64_t kLeastPieces = 4, kMostPieces = 32;

}  // namespace

bool Slot::post(Side side, const Part& part) {
  if (state().holds(side)) return false;
  (side == Side::kSender ? sender : receiver) = part;
  word.fetch_or(flag(side), std::memory_order_acq_rel);
  return true;
}

Slot::Claim Slot::claim(std::int64_t pieces) {
  State now = state();
  while (!now.retracted() && now.claimed() < pieces) {
    const std::int64_t left = pieces - now.claimed();
    const std::int64_t count =
        std::min(left, std::clamp(left / 2, kLeastPieces, kMostPieces));
    if (word.compare_exchange_weak(
            now.word, now.word + static_cast<std::uint64_t>(count) * kClaimed,
            std::memory_order_acq_rel, std::memory_order_acquire)) {
      return {now.claimed(), count};
    }
  }
  return {0, 0};
}

void Slot::claim_next(std::int64_t count) {
  word.fetch_add(static_cast<std::uint64_t>(count) * kClaimed,
                 std::memory_order_acq_rel);
}

bool Slot::finish(const Claim& claim, std::int64_t pieces) {
  const State before{
      word.fetch_add(static_cast<std::uint64_t>(claim.count) * kCopied,
                     std::memory_order_acq_rel)};
  return before.copied() + claim.count == pieces;
}

}  // namespace catena
