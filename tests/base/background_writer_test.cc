#include "runtime/base/background_writer.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <optional>
#include <string>

namespace catena {
namespace {

using Clock = std::chrono::steady_clock;

/// A pipe that nobody reads yet.
class BackgroundWriterTest : public ::testing::Test {
 protected:
  BackgroundWriterTest() {
    EXPECT_EQ(::pipe(ends_.data()), 0);
    writer_.emplace(ends_[1]);
  }
  ~BackgroundWriterTest() override { ::close(ends_[0]); }

  std::string read(std::size_t bytes) {
    std::string text(bytes, '\0');
    std::size_t got = 0;
    while (got < bytes) {
      const ssize_t count = ::read(ends_[0], text.data() + got, bytes - got);
      if (count <= 0) break;
      got += static_cast<std::size_t>(count);
    }
    text.resize(got);
    return text;
  }

  std::array<int, 2> ends_{};
  std::optional<BackgroundWriter> writer_;
};

TEST_F(BackgroundWriterTest, AllIsWrittenInOrder) {
  std::string all;
  for (int i = 0; i < 1000; ++i) {
    const std::string line = fmt::format("line {}\n", i);
    ASSERT_TRUE(writer_->write(line));
    all += line;
  }
  writer_.reset();
  EXPECT_EQ(read(all.size()), all);
}

TEST_F(BackgroundWriterTest, NobodyWaitsWhereNobodyReads) {
  const auto begin = Clock::now();
  std::string all;
  for (char letter = 'a'; letter <= 'z'; ++letter) {
    const std::string text(100'000, letter);
    if (!writer_->write(text)) break;
    all += text;
  }
  EXPECT_LT(Clock::now() - begin, BackgroundWriter::kPatience);
  EXPECT_EQ(all.size(), 1'000'000U);
  EXPECT_TRUE(writer_->write("it fits"));
  EXPECT_EQ(read(all.size() + 7), all + "it fits");
  // There is room again.
  while (!writer_->write(all)) ::usleep(1000);
  EXPECT_EQ(read(all.size()), all);
}

TEST_F(BackgroundWriterTest, ItsEndWaitsForNobodyWhoDoesNotRead) {
  ASSERT_TRUE(writer_->write(std::string(1'000'000, 'x')));
  const auto begin = Clock::now();
  writer_.reset();
  const auto took = Clock::now() - begin;
  EXPECT_GE(took, BackgroundWriter::kPatience);
  EXPECT_LT(took, 10 * BackgroundWriter::kPatience);
}

TEST_F(BackgroundWriterTest, AReaderThatIsGoneEndsNobody) {
  ::close(ends_[0]);
  ASSERT_TRUE(writer_->write("nobody reads this"));
  writer_.reset();
  ASSERT_EQ(::pipe(ends_.data()), 0);
}

}  // namespace
}  // namespace catena
