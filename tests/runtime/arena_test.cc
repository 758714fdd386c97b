#include "runtime/arena.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>

#include "runtime/backend.h"

namespace catena {
namespace {

class ArenaTest : public ::testing::Test {
 protected:
  std::unique_ptr<Backend> backend_ = make_cpu_backend(1);
  Arena arena_{*backend_};
};

TEST_F(ArenaTest, TensorsAreAlignedAndApart) {
  const TensorView a = arena_.allocate(DType::kFloat32, {3, 5});
  const TensorView b = arena_.allocate(DType::kBFloat16, {7});
  for (const TensorView& view : {a, b}) {
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(view.data()) % 64, 0u);
  }
  EXPECT_GE(static_cast<char*>(b.data()) - static_cast<char*>(a.data()),
            a.bytes());
  EXPECT_EQ(a.shape(), (Shape{3, 5}));
  EXPECT_EQ(arena_.used_bytes(), 128u);
}

TEST_F(ArenaTest, RewindGivesTheSameMemoryAgain) {
  const Arena::Mark mark = arena_.mark();
  void* const first = arena_.allocate_bytes(1000);
  arena_.rewind(mark);
  EXPECT_EQ(arena_.used_bytes(), 0u);
  EXPECT_EQ(arena_.allocate_bytes(10), first);
  EXPECT_EQ(arena_.peak_bytes(), 1024u);
}

TEST_F(ArenaTest, ScopesNest) {
  const ArenaScope outer(arena_);
  void* const kept = arena_.allocate_bytes(64);
  void* inside = nullptr;
  {
    const ArenaScope inner(arena_);
    inside = arena_.allocate_bytes(64);
  }
  EXPECT_EQ(arena_.used_bytes(), 64u);
  EXPECT_EQ(arena_.allocate_bytes(64), inside);
  EXPECT_NE(inside, kept);
}

TEST_F(ArenaTest, GrowthKeepsWhatIsAlive) {
  const TensorView small = arena_.allocate(DType::kInt32, {4});
  small.as<std::int32_t>()[3] = 42;
  for (int i = 0; i < 6; ++i) {
    void* const block = arena_.allocate_bytes(std::size_t{3} << 20);
    std::memset(block, 0xff, std::size_t{3} << 20);
  }
  EXPECT_EQ(small.as<std::int32_t>()[3], 42);
  EXPECT_GE(arena_.held_bytes(), arena_.peak_bytes());
}

TEST_F(ArenaTest, ReservesOneBlockAndThenHoldsStill) {
  const auto use = [&] {
    const ArenaScope scope(arena_);
    for (int i = 0; i < 5; ++i) {
      std::memset(arena_.allocate_bytes(std::size_t{1} << 21), 1,
                  std::size_t{1} << 21);
    }
  };
  use();
  arena_.reserve(0);
  EXPECT_EQ(arena_.held_bytes(), arena_.peak_bytes());
  const std::size_t held = arena_.held_bytes();
  for (int step = 0; step < 3; ++step) use();
  EXPECT_EQ(arena_.held_bytes(), held);
}

TEST_F(ArenaTest, RefusesMisuse) {
  const Arena::Mark before = arena_.mark();
  static_cast<void>(arena_.allocate_bytes(64));
  const Arena::Mark after = arena_.mark();
  EXPECT_THROW(arena_.reserve(1), Error);
  arena_.rewind(before);
  EXPECT_THROW(arena_.rewind(after), Error);
}

TEST_F(ArenaTest, EmptyTensorsHaveAnAddress) {
  const TensorView empty = arena_.allocate(DType::kFloat32, {0, 8});
  EXPECT_NE(empty.data(), nullptr);
  EXPECT_TRUE(empty.empty());
}

}  // namespace
}  // namespace catena
