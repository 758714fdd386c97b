#include "parallel/shared_memory/pool.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <vector>

namespace catena::shared_memory {
namespace {

TEST(SharedMemoryPoolTest, TakesTheFirstPlaceThatIsLongEnough) {
  Pool pool(1024);
  EXPECT_EQ(pool.take(1), 0U);
  EXPECT_EQ(pool.take(100), 64U);
  EXPECT_EQ(pool.take(64), 192U);
  pool.give_back(64, 100);
  EXPECT_EQ(pool.take(129), 256U);
  EXPECT_EQ(pool.take(128), 64U);
  EXPECT_EQ(pool.end(), 448U);
  EXPECT_FALSE(pool.take(577).has_value());
  EXPECT_EQ(pool.take(576), 448U);
  EXPECT_FALSE(pool.take(0).has_value());
}

RC_GTEST_PROP(SharedMemoryPoolTest, NoTwoHaveTheSamePlace, ()) {
  struct Range {
    std::size_t begin, bytes;
  };
  constexpr std::size_t kCapacity = 10000;
  Pool pool(kCapacity);
  std::vector<Range> taken;
  for (const unsigned step : *rc::gen::arbitrary<std::vector<unsigned>>()) {
    if (step % 2 == 0 && !taken.empty()) {
      std::swap(taken[step / 2 % taken.size()], taken.back());
      pool.give_back(taken.back().begin, taken.back().bytes);
      taken.pop_back();
      continue;
    }
    const std::size_t bytes = step / 2 % 3000;
    const auto begin = pool.take(bytes);
    if (!begin) continue;
    RC_ASSERT(*begin % Pool::kAlignment == 0U);
    RC_ASSERT(*begin + bytes <= kCapacity);
    RC_ASSERT(*begin + bytes <= pool.end());
    for (const Range& other : taken) {
      RC_ASSERT(*begin + bytes <= other.begin ||
                other.begin + other.bytes <= *begin);
    }
    taken.push_back({*begin, bytes});
  }
  for (const Range& range : taken) pool.give_back(range.begin, range.bytes);
  RC_ASSERT(pool.end() == 0U);
  RC_ASSERT(pool.taken() == 0U);
}

}  // namespace
}  // namespace catena::shared_memory
