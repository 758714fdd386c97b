#include "runtime/base/machine.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
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

/// Control groups as the kernel shows them, in a folder of the test's own.
class ControlGroupsTest : public testing::Test {
 protected:
  static constexpr std::int64_t kMebi = std::int64_t{1} << 20;

  ~ControlGroupsTest() override { std::filesystem::remove_all(folder_); }

  void write(const std::string& path, const std::string& text) const {
    const std::filesystem::path file = folder_ / path;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file) << text << '\n';
  }
  void write(const std::string& path, std::int64_t bytes) const {
    write(path, std::to_string(bytes));
  }

  std::filesystem::path folder_ = std::filesystem::path(testing::TempDir()) /
                                  fmt::format("groups-{}", ::getpid());
  ControlGroups groups_{folder_ / "root", folder_ / "own"};
};

TEST_F(ControlGroupsTest, LimitsAreThoseOfTheProcesssOwnGroup) {
  write("own", "1:name=systemd:/other\n0::/slice/job:0");
  write("root/slice/memory.max", "max");
  write("root/slice/cpu.max", "max 100000");
  write("root/slice/job:0/memory.max", 9 * kMebi);
  write("root/slice/job:0/memory.current", 6 * kMebi);
  write("root/slice/job:0/memory.stat",
        fmt::format("anon 1\ninactive_file {}", 2 * kMebi));
  write("root/slice/job:0/cpu.max", "150000 100000");
  write("root/other/memory.max", kMebi);
  write("root/other/cpu.max", "1000 100000");
  EXPECT_EQ(memory_limit_bytes(groups_), 9 * kMebi);
  EXPECT_EQ(available_memory_bytes(groups_), 5 * kMebi);
  EXPECT_EQ(core_quota(groups_), 1.5);
}

TEST_F(ControlGroupsTest, TheLeastOfAllGroupsAroundItCounts) {
  write("own", "0::/a/b/c");
  write("root/a/memory.max", 8 * kMebi);
  write("root/a/memory.current", 7 * kMebi);
  write("root/a/cpu.max", "300000 100000");
  write("root/a/b/memory.max", 4 * kMebi);
  write("root/a/b/memory.current", kMebi);
  write("root/a/b/cpu.max", "50000 100000");
  write("root/a/b/c/memory.max", 6 * kMebi);
  write("root/a/b/c/memory.current", kMebi);
  write("root/a/b/c/cpu.max", "200000 100000");
  EXPECT_EQ(memory_limit_bytes(groups_), 4 * kMebi);
  EXPECT_EQ(available_memory_bytes(groups_), kMebi);
  EXPECT_EQ(core_quota(groups_), 0.5);
}

// As in a container that sees its own group alone, by the host's path.
TEST_F(ControlGroupsTest, TheRootCountsWhereThePathIsNotThere) {
  write("own", "0::/docker/0123");
  write("root/memory.max", 3 * kMebi);
  write("root/cpu.max", "200000 100000");
  EXPECT_EQ(memory_limit_bytes(groups_), 3 * kMebi);
  EXPECT_EQ(core_quota(groups_), 2);
}

TEST_F(ControlGroupsTest, VersionOneHasItsOwnPath) {
  write("own", "4:cpuset,memory:/job\n1:cpu:/other\n0::/");
  write("root/memory/job/memory.limit_in_bytes", 2 * kMebi);
  write("root/memory/other/memory.limit_in_bytes", kMebi);
  EXPECT_EQ(memory_limit_bytes(groups_), 2 * kMebi);
  write("root/memory/memory.limit_in_bytes", kMebi);
  EXPECT_EQ(memory_limit_bytes(groups_), kMebi);
}

TEST_F(ControlGroupsTest, WithoutLimitsTheMachineIsTheLimit) {
  const std::int64_t machine = memory_limit_bytes(groups_);
  EXPECT_GE(machine, memory_limit_bytes());
  EXPECT_EQ(core_quota(groups_), 0);
  write("own", "0::/job");
  write("root/job/memory.max", "max");
  write("root/job/cpu.max", "max 100000");
  EXPECT_EQ(memory_limit_bytes(groups_), machine);
  EXPECT_EQ(core_quota(groups_), 0);
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
