#include "runtime/base/machine.h"

#include <gtest/gtest.h>
#include <sched.h>

#include <string>
#include <vector>

namespace catena {
namespace {

TEST(MachineTest, AvailableMemoryIsAPartOfTheLimit) {
  EXPECT_GT(available_memory_bytes(), 0);
  EXPECT_LE(available_memory_bytes(), memory_limit_bytes());
}

TEST(MachineTest, CoresAreThoseTheProcessIsBoundTo) {
  cpu_set_t before;
  ASSERT_EQ(::sched_getaffinity(0, sizeof before, &before), 0);
  int last = 0;
  for (int i = 0; i < CPU_SETSIZE; ++i) {
    if (CPU_ISSET(i, &before)) last = i;
  }
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(last, &one);
  ASSERT_EQ(::sched_setaffinity(0, sizeof one, &one), 0);
  EXPECT_EQ(available_cores(), 1);
  EXPECT_EQ(core_list(), std::to_string(last));
  ASSERT_EQ(::sched_setaffinity(0, sizeof before, &before), 0);
  EXPECT_EQ(available_cores(), CPU_COUNT(&before));
  EXPECT_GE(core_quota(), 0);
}

TEST(MachineTest, FlagsAreWholeWords) {
#if defined(__x86_64__)
  EXPECT_TRUE(has_processor_flag("sse2"));
  EXPECT_FALSE(has_processor_flag("sse2x"));
  EXPECT_FALSE(has_processor_flag("se2"));
#endif
  EXPECT_FALSE(has_processor_flag("no_such_flag"));
}

TEST(MachineTest, AnonymousMemoryIsWhatIsTouched) {
  const std::int64_t before = anonymous_bytes();
  const std::vector<char> memory(std::size_t{32} << 20, 'x');
  EXPECT_GE(anonymous_bytes() - before, std::int64_t{30} << 20);
  EXPECT_GE(peak_resident_bytes(), resident_bytes() - (1 << 20));
  EXPECT_EQ(memory.back(), 'x');
}

}  // namespace
}  // namespace catena
