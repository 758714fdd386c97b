#include "launcher/run_files.h"

#include <dirent.h>
#include <dlfcn.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <cerrno>
#include <filesystem>
#include <fstream>

namespace {

int entries_left = -1;  ///< until a folder cannot be read on; -1: it can

}  // namespace

// In the place of the C library's, also for the C++ library.
extern "C" dirent* readdir(DIR* folder) {
  using Read = dirent* (*)(DIR*);
  static const auto read =
      reinterpret_cast<Read>(::dlsym(RTLD_NEXT, "readdir"));
  if (entries_left == 0) {
    errno = EIO;
    return nullptr;
  }
  if (entries_left > 0) --entries_left;
  return read(folder);
}

namespace catena::launcher {
namespace {

namespace fs = std::filesystem;

TEST(RunFilesTest, AFolderThatCannotBeReadOnHasTheCheckpointsReadSoFar) {
  std::string name = testing::TempDir() + "runXXXXXX";
  const fs::path run = ::mkdtemp(name.data());
  EXPECT_EQ(newest_checkpoint_step(run), 0);
  for (int step = 1; step <= 9; ++step) {
    const fs::path made = run / "checkpoints" / fmt::format("step-{:06}", step);
    fs::create_directories(made);
    std::ofstream(made / "MANIFEST.json") << "{}";
  }
  EXPECT_EQ(newest_checkpoint_step(run), 9);
  for (int most = 0; most < 11; ++most) {
    entries_left = most;
    const std::int64_t step = newest_checkpoint_step(run);
    EXPECT_EQ(entries_left, 0);
    EXPECT_LE(step, 9);
    // "." and ".." are entries, too.
    EXPECT_GE(step, most > 2 ? 1 : 0);
  }
  entries_left = -1;
  fs::remove_all(run);
}

}  // namespace
}  // namespace catena::launcher
