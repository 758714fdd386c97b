#include "runtime/base/files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "runtime/base/error.h"

namespace catena {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

// A folder of its own for every case, removed afterwards.
class FilesTest : public ::testing::Test {
 protected:
  FilesTest() {
    std::string name = (fs::temp_directory_path() / "filesXXXXXX").string();
    folder_ = ::mkdtemp(name.data());
  }
  ~FilesTest() override {
    std::error_code ignored;
    fs::permissions(folder_, fs::perms::owner_all, ignored);
    fs::remove_all(folder_, ignored);
  }
  [[nodiscard]] std::size_t entries() const {
    return static_cast<std::size_t>(std::distance(
        fs::directory_iterator(folder_), fs::directory_iterator()));
  }

  fs::path folder_;
};

template <class Action>
Error error_of(Action action) {
  try {
    action();
  } catch (const Error& error) {
    return error;
  }
  return {ErrorKind::kInternal, "no error"};
}

TEST_F(FilesTest, WritesAndReadsEveryByte) {
  std::string content;
  for (int i = 0; i < 100'000; ++i) content += static_cast<char>(i * 7);
  write_file_atomically(folder_ / "a", content);
  EXPECT_EQ(read_file(folder_ / "a"), content);
  write_file_atomically(folder_ / "a", "");
  EXPECT_EQ(read_file(folder_ / "a"), "");
  EXPECT_EQ(entries(), 1U) << "no temporary file stays behind";
}

TEST_F(FilesTest, CreatesMissingFolders) {
  write_file_atomically(folder_ / "x/y/z", "deep");
  EXPECT_EQ(read_file(folder_ / "x/y/z"), "deep");
}

TEST_F(FilesTest, ReadingSaysWhatIsWrong) {
  const Error missing = error_of([&] { (void)read_file(folder_ / "no"); });
  EXPECT_EQ(missing.kind(), ErrorKind::kData);
  EXPECT_EQ(missing.what(), (folder_ / "no").string() +
                                ": cannot open: No such file or directory");
  const Error folder = error_of([&] { (void)read_file(folder_); });
  EXPECT_EQ(folder.kind(), ErrorKind::kData);
  EXPECT_THAT(folder.what(), HasSubstr("is a folder, a file was expected"));
  EXPECT_EQ(error_of([&] { MappedFile file(folder_); }).kind(),
            ErrorKind::kData);
}

// The disk is made full for one write by a limit on the size of files.
TEST_F(FilesTest, FailedWriteLeavesTheOldFile) {
  write_file_atomically(folder_ / "a", "old");
  struct rlimit before {};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  struct rlimit small = before;
  small.rlim_cur = 1000;
  auto* handler = std::signal(SIGXFSZ, SIG_IGN);
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  const Error error = error_of(
      [&] { write_file_atomically(folder_ / "a", std::string(5000, 'n')); });
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  std::signal(SIGXFSZ, handler);
  EXPECT_EQ(error.kind(), ErrorKind::kIo);
  EXPECT_THAT(error.what(), HasSubstr("cannot write: File too large"));
  EXPECT_EQ(read_file(folder_ / "a"), "old");
  EXPECT_EQ(entries(), 1U) << "no temporary file stays behind";
}

TEST_F(FilesTest, WithoutCommitNothingHappens) {
  write_file_atomically(folder_ / "a", "old");
  {
    AtomicFile file(folder_ / "a");
    file.write("new");
    EXPECT_EQ(file.written().bytes, 3);
    EXPECT_EQ(read_file(folder_ / "a"), "old");
  }
  EXPECT_EQ(read_file(folder_ / "a"), "old");
  EXPECT_EQ(entries(), 1U);
}

TEST_F(FilesTest, PiecesAreOneFile) {
  AtomicFile file(folder_ / "a");
  file.write("one ");
  file.write("two");
  file.commit();
  EXPECT_EQ(read_file(folder_ / "a"), "one two");
}

// Permissions do not bind root, so a child process acts as nobody; its exit
// code tells what happened.
TEST_F(FilesTest, ReadOnlyFolderIsAnError) {
  constexpr int kAsExpected = 0, kOther = 1, kCannotLeaveRoot = 2;
  write_file_atomically(folder_ / "a", "old");
  ASSERT_EQ(::chmod(folder_.c_str(), 0555), 0);
  const std::string expected =
      (folder_ / "a").string() + ": cannot write: Permission denied";
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    if (::geteuid() == 0 && ::seteuid(65534) != 0) ::_exit(kCannotLeaveRoot);
    const Error error =
        error_of([&] { write_file_atomically(folder_ / "a", "new"); });
    const bool good =
        error.kind() == ErrorKind::kIo && error.what() == expected;
    ::_exit(good ? kAsExpected : kOther);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status));
  if (WEXITSTATUS(status) == kCannotLeaveRoot) {
    GTEST_SKIP() << "root cannot become another user here";
  }
  EXPECT_EQ(WEXITSTATUS(status), kAsExpected);
  EXPECT_EQ(read_file(folder_ / "a"), "old");
}

TEST_F(FilesTest, FolderInTheWayIsAnError) {
  fs::create_directory(folder_ / "a");
  const Error error =
      error_of([&] { write_file_atomically(folder_ / "a", "new"); });
  EXPECT_EQ(error.kind(), ErrorKind::kIo);
  EXPECT_THAT(error.what(), HasSubstr("cannot rename into place"));
  EXPECT_TRUE(fs::is_directory(folder_ / "a"));
  EXPECT_EQ(entries(), 1U) << "no temporary file stays behind";
}

TEST_F(FilesTest, FileWhereAFolderShouldBeIsAnError) {
  write_file_atomically(folder_ / "a", "old");
  const Error error =
      error_of([&] { write_file_atomically(folder_ / "a/b", "new"); });
  EXPECT_EQ(error.kind(), ErrorKind::kIo);
  EXPECT_THAT(error.what(), HasSubstr("cannot"));
  EXPECT_EQ(read_file(folder_ / "a"), "old");
}

TEST_F(FilesTest, MapsAFile) {
  write_file_atomically(folder_ / "a", "mapped");
  MappedFile first(folder_ / "a");
  EXPECT_EQ(first.text(), "mapped");
  EXPECT_EQ(first.bytes().size(), 6U);
  MappedFile second(std::move(first));
  MappedFile third;
  third = std::move(second);
  EXPECT_EQ(third.text(), "mapped");
  write_file_atomically(folder_ / "a", "");
  EXPECT_EQ(third.text(), "mapped") << "the old file stays mapped";
  EXPECT_TRUE(MappedFile(folder_ / "a").bytes().empty());
}

}  // namespace
}  // namespace catena
