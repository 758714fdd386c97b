#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>

namespace catena {

/// Where data lie, in terms that every rank can make a pointer of. kPrivate:
/// where only the rank itself can reach them.
using Address = std::uint64_t;
constexpr Address kPrivate = ~Address{0};

enum class Side : std::uint8_t { kSender, kReceiver };
[[nodiscard]] constexpr Side other(Side side) {
  return side == Side::kSender ? Side::kReceiver : Side::kSender;
}

/// One message, of which both sides write their part. When both parts are
/// there, whichever side comes by claims pieces of it and copies them: one may
/// do all, or both their share. Who copies the last piece has left with that;
/// the other clears the slot when it sees so, and then it holds the next
/// message. A side that fails retracts: no piece is claimed any more.
///
/// Between threads or processes: all they share is `word`, which orders the
/// rest. Zero bytes are an empty slot.
struct alignas(64) Slot {
  struct Part {
    Address address;
    std::int64_t bytes;
    std::uint64_t tag;
  };
  /// A run of pieces.
  struct Claim {
    std::int64_t begin, count;
  };
  static constexpr std::int64_t kPieceBytes = 8 * 1024;
  [[nodiscard]] static std::int64_t pieces(std::int64_t bytes) {
    return std::max<std::int64_t>(1, (bytes + kPieceBytes - 1) / kPieceBytes);
  }

  /// A state of the slot.
  struct State {
    std::uint64_t word;
    [[nodiscard]] bool holds(Side side) const {
      return (word & flag(side)) != 0;
    }
    [[nodiscard]] bool matched() const { return (word & kBoth) == kBoth; }
    [[nodiscard]] bool retracted() const { return (word & kRetracted) != 0; }
    [[nodiscard]] std::int64_t claimed() const {
      return static_cast<std::int64_t>(word / kClaimed % kCounts);
    }
    [[nodiscard]] std::int64_t copied() const {
      return static_cast<std::int64_t>(word / kCopied);
    }
  };
  [[nodiscard]] State state() const {
    return {word.load(std::memory_order_acquire)};
  }

  /// Puts one side's part in. Returns false while the message before is there.
  [[nodiscard]] bool post(Side side, const Part& part);
  /// Takes pieces of a matched message of `pieces` to copy, at most half of
  /// what is left and more than a few; none if there are none.
  [[nodiscard]] Claim claim(std::int64_t pieces);
  /// The same for the next `count` pieces, by the only one who claims.
  void claim_next(std::int64_t count);
  /// Says that a claim is copied. Returns whether the message is through: then
  /// the caller has left the slot.
  [[nodiscard]] bool finish(const Claim& claim, std::int64_t pieces);
  /// By the side that did not finish the last piece, when all are copied.
  void clear() { word.store(0, std::memory_order_release); }
  void retract() { word.fetch_or(kRetracted, std::memory_order_acq_rel); }

  static constexpr std::uint64_t kSenderHere = 1, kReceiverHere = 2,
                                 kBoth = kSenderHere | kReceiverHere,
                                 kRetracted = 4, kClaimed = 16,
                                 kCounts = std::uint64_t{1} << 30,
                                 kCopied = kClaimed * kCounts;
  [[nodiscard]] static std::uint64_t flag(Side side) {
    return side == Side::kSender ? kSenderHere : kReceiverHere;
  }

  std::atomic<std::uint64_t> word = 0;
  Part sender{}, receiver{};
  /// Where the sender puts pieces that neither side can bring to the other's
  /// memory: set before the first is claimed.
  Address bounce = kPrivate;
};
static_assert(sizeof(Slot) == 64);
static_assert(std::atomic<std::uint64_t>::is_always_lock_free);

/// One direction between two ranks, on one lane: message i is in slot
/// i % kSlots on both sides.
struct Channel {
  static constexpr std::size_t kSlots = 16;
  Slot slots[kSlots];
};

}  // namespace catena
