// Checkpoints on a file system that cannot exchange names, as NFS: these calls
// stand in place of the C library's.

#include <dlfcn.h>

#include <cerrno>
#include <cstdio>

#include "tests/training/checkpoint_fixture.h"

namespace {

int renames_until_one_fails = -1;

}  // namespace

extern "C" {

int renameat2(int, const char*, int, const char*, unsigned int) noexcept {
  errno = EINVAL;
  return -1;
}

int rename(const char* from, const char* to) noexcept {
  static auto* const next =
      reinterpret_cast<decltype(&::rename)>(::dlsym(RTLD_NEXT, "rename"));
  if (renames_until_one_fails == 0) {
    errno = EIO;
    return -1;
  }
  if (renames_until_one_fails > 0) --renames_until_one_fails;
  return next(from, to);
}

}  // extern "C"

namespace catena {
namespace {

using testing::ElementsAre;

class PlainRenameTest : public CheckpointFixture {
 protected:
  PlainRenameTest() {
    fill(1);
    (void)write(5);
  }
  ~PlainRenameTest() override { renames_until_one_fails = -1; }

  [[nodiscard]] std::vector<std::string> names() const {
    std::vector<std::string> result;
    for (const auto& entry : fs::directory_iterator(checkpoints_)) {
      result.push_back(entry.path().filename().string());
    }
    return result;
  }
};

TEST_F(PlainRenameTest, TheNewOneTakesThePlaceOfTheOld) {
  fill(2);
  const std::vector<double> expected = values();
  (void)write(5);
  EXPECT_THAT(names(), ElementsAre("step-000005"));
  fill(3);
  restore(step_folder(5), model_, optimizer_);
  EXPECT_EQ(values(), expected);
}

TEST_F(PlainRenameTest, TheOldOneStandsWhereItsPlaceCannotBeTaken) {
  const std::vector<double> expected = values();
  fill(2);
  // Of files within, then the old one's, and its successor's.
  int count = 0;
  for (; count < 20; ++count) {
    renames_until_one_fails = count;
    try {
      (void)write(5);
      break;
    } catch (const Error&) {
    }
    renames_until_one_fails = -1;
    remove_unfinished_checkpoints(checkpoints_);
    const auto place = newest_checkpoint(checkpoints_);
    ASSERT_TRUE(place.has_value()) << count;
    fill(3);
    restore(place->folder, model_, optimizer_);
    EXPECT_EQ(values(), expected) << count;
    fill(2);
  }
  EXPECT_GE(count, 5) << "renames that failed";
  EXPECT_LT(count, 20) << "it is written at last";
}

TEST_F(PlainRenameTest, ACrashBetweenTwoRenamesLeavesTheOldOne) {
  const std::vector<double> expected = values();
  fs::rename(step_folder(5), step_folder(5).string() + ".replaced");
  fs::create_directory(checkpoints_ / ".unfinished-step-000005");
  remove_unfinished_checkpoints(checkpoints_);
  const auto place = newest_checkpoint(checkpoints_);
  ASSERT_TRUE(place.has_value());
  EXPECT_EQ(place->step, 5);
  fill(3);
  restore(place->folder, model_, optimizer_);
  EXPECT_EQ(values(), expected);
  // Once its place is taken it is only in the way.
  (void)write(5);
  remove_unfinished_checkpoints(checkpoints_);
  EXPECT_THAT(names(), ElementsAre("step-000005"));
}

}  // namespace
}  // namespace catena
