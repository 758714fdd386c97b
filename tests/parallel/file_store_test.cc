#include "parallel/file_store.h"

#include <gmock/gmock.h>
#include <unistd.h>

#include <thread>

#include "runtime/base/error.h"

namespace catena {
namespace {

using std::chrono::milliseconds;
using ::testing::HasSubstr;

class FileStoreTest : public ::testing::Test {
 protected:
  ~FileStoreTest() override { std::filesystem::remove_all(folder_); }
  const std::filesystem::path folder_ =
      std::filesystem::temp_directory_path() /
      fmt::format("catena-store-test-{}", getpid());
};

TEST_F(FileStoreTest, GivesTheBytesThatWereSet) {
  FileStore one(folder_), other(folder_);
  const std::string value("\0\n\xff", 3);
  one.set("run/1", value);
  one.set("run/2", "");
  EXPECT_EQ(other.get("run/1", milliseconds(0)), value);
  EXPECT_EQ(other.get("run/2", milliseconds(0)), "");
}

TEST_F(FileStoreTest, WaitsForAKey) {
  FileStore store(folder_);
  const std::jthread later([&] {
    std::this_thread::sleep_for(milliseconds(20));
    FileStore(folder_).set("late", "here");
  });
  EXPECT_EQ(store.get("late", std::chrono::seconds(60)), "here");
}

TEST_F(FileStoreTest, NamesTheKeyThatNobodySets) {
  FileStore store(folder_);
  try {
    static_cast<void>(store.get("run/none", milliseconds(10)));
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kTimeout);
    EXPECT_THAT(error.what(), HasSubstr("run/none"));
  }
}

}  // namespace
}  // namespace catena
