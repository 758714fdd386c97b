#include "parallel/slot.h"

#include <gtest/gtest.h>

#include <cstring>
#include <thread>
#include <vector>

namespace catena {
namespace {

TEST(SlotTest, HoldsOneMessageUntilItIsCleared) {
  Slot slot;
  ASSERT_TRUE(slot.post(Side::kReceiver, {1, 10, 2}));
  EXPECT_FALSE(slot.post(Side::kReceiver, {1, 10, 2}));
  EXPECT_FALSE(slot.state().matched());
  ASSERT_TRUE(slot.post(Side::kSender, {3, 10, 2}));
  EXPECT_TRUE(slot.state().matched());
  const Slot::Claim claim = slot.claim(1);
  EXPECT_EQ(claim.count, 1);
  EXPECT_EQ(slot.claim(1).count, 0);
  EXPECT_TRUE(slot.finish(claim, 1));
  EXPECT_FALSE(slot.post(Side::kSender, {3, 10, 2}));
  slot.clear();
  EXPECT_TRUE(slot.post(Side::kSender, {3, 10, 2}));
}

TEST(SlotTest, GivesEveryPieceOnce) {
  Slot slot;
  constexpr std::int64_t kPieces = 1000;
  std::int64_t next = 0;
  for (bool through = false; !through;) {
    const Slot::Claim claim = slot.claim(kPieces);
    ASSERT_EQ(claim.begin, next);
    ASSERT_GT(claim.count, 0);
    next += claim.count;
    through = slot.finish(claim, kPieces);
    EXPECT_EQ(through, next == kPieces);
  }
  EXPECT_EQ(slot.claim(kPieces).count, 0);
}

TEST(SlotTest, ARetractedMessageGivesNoMorePieces) {
  Slot slot;
  const Slot::Claim claim = slot.claim(100);
  slot.retract();
  EXPECT_EQ(slot.claim(100).count, 0);
  EXPECT_EQ(slot.state().claimed() - slot.state().copied(), claim.count);
  EXPECT_FALSE(slot.finish(claim, 100));
  EXPECT_EQ(slot.state().claimed(), slot.state().copied());
}

/// Both sides copy what they can get of each message; one of them ends it.
TEST(SlotTest, TwoSidesShareTheCopyOfManyMessages) {
  constexpr int kMessages = 200;
  constexpr std::int64_t kBytes = 20 * Slot::kPieceBytes + 7;
  std::vector<char> from(kBytes), to(kBytes);
  Slot slot;
  const auto side = [&](Side which) {
    const std::int64_t pieces = Slot::pieces(kBytes);
    for (int i = 0; i < kMessages; ++i) {
      if (which == Side::kSender) std::memset(from.data(), i, kBytes);
      while (!slot.post(which, {0, kBytes, 0})) std::this_thread::yield();
      while (!slot.state().matched()) std::this_thread::yield();
      for (bool through = false; !through;) {
        const Slot::Claim claim = slot.claim(pieces);
        if (claim.count > 0) {
          const std::int64_t begin = claim.begin * Slot::kPieceBytes;
          const std::int64_t end =
              std::min(kBytes, begin + claim.count * Slot::kPieceBytes);
          std::memcpy(&to[static_cast<std::size_t>(begin)],
                      &from[static_cast<std::size_t>(begin)],
                      static_cast<std::size_t>(end - begin));
          through = slot.finish(claim, pieces);
        } else if (slot.state().copied() == pieces) {
          slot.clear();
          through = true;
        }
      }
      if (which == Side::kReceiver) {
        EXPECT_EQ(to, std::vector<char>(kBytes, static_cast<char>(i)));
      }
    }
  };
  const std::jthread sender([&] { side(Side::kSender); });
  side(Side::kReceiver);
}

}  // namespace
}  // namespace catena
