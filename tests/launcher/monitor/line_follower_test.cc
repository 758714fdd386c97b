#include "launcher/monitor/line_follower.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/launcher/monitor/run_files.h"

namespace catena::launcher {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class LineFollowerTest : public ::testing::Test {
 protected:
  LineFollowerTest() : follower_(files_.path() / "lines") {}

  /// Reads to the end.
  void read() {
    while (follower_.read(
        {.anew =
             [this] {
               lines_.clear();
               ++begun_;
             },
         .line =
             [this](std::string_view line) { lines_.emplace_back(line); }})) {
    }
  }

  RunFiles files_;
  LineFollower follower_;
  std::vector<std::string> lines_;
  int begun_ = 0;
};

TEST_F(LineFollowerTest, AFileThatIsNotThereHasNoLines) {
  read();
  EXPECT_THAT(lines_, IsEmpty());
  EXPECT_EQ(begun_, 0);
  EXPECT_EQ(follower_.modified(), 0);
}

TEST_F(LineFollowerTest, ALineCountsOnceItIsWhole) {
  files_.append("lines", "one\ntw");
  read();
  EXPECT_THAT(lines_, ElementsAre("one"));
  files_.append("lines", "o");
  read();
  EXPECT_THAT(lines_, ElementsAre("one"));
  files_.append("lines", "\n\nfour\n");
  read();
  EXPECT_THAT(lines_, ElementsAre("one", "two", "", "four"));
  EXPECT_EQ(begun_, 1);
  EXPECT_GT(follower_.modified(), 1e9);
  EXPECT_EQ(follower_.read_so_far(), follower_.size());
}

TEST_F(LineFollowerTest, AFileThatIsReplacedIsReadAnew) {
  files_.append("lines", "one\ntwo\nthr");
  read();
  // Longer than what was read before: only the inode says it.
  files_.replace("lines", "one\nand something much longer\n");
  read();
  EXPECT_THAT(lines_, ElementsAre("one", "and something much longer"));
  EXPECT_EQ(begun_, 2);
}

TEST_F(LineFollowerTest, AFileThatIsShortenedIsReadAnew) {
  files_.append("lines", "one\ntwo\n");
  read();
  std::filesystem::resize_file(files_.path() / "lines", 4);
  read();
  EXPECT_THAT(lines_, ElementsAre("one"));
  EXPECT_EQ(begun_, 2);
}

TEST_F(LineFollowerTest, AFileThatGoesAndComesBackIsReadAnew) {
  files_.append("lines", "one\n");
  read();
  std::filesystem::remove(files_.path() / "lines");
  read();
  EXPECT_THAT(lines_, ElementsAre("one"));
  files_.append("lines", "new\n");
  read();
  EXPECT_THAT(lines_, ElementsAre("new"));
}

TEST_F(LineFollowerTest, ALineAcrossManyPiecesIsOne) {
  const std::string line(1 << 20, 'x');
  files_.append("lines", line + "\nend\n");
  read();
  EXPECT_THAT(lines_, ElementsAre(line, "end"));
}

TEST_F(LineFollowerTest, ALineThatIsTooLongIsLeftOut) {
  files_.append("lines", "one\n");
  files_.append("lines", std::string(LineFollower::kMostLine + (1 << 20), 'x'));
  read();
  files_.append("lines", "more\ntwo\n");
  read();
  EXPECT_THAT(lines_, ElementsAre("one", "two"));
}

}  // namespace
}  // namespace catena::launcher
