#include "training/route_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>

namespace catena {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;

class RouteFileTest : public testing::Test {
 protected:
  ~RouteFileTest() override { fs::remove(path_); }

  /// Rows of 3, 0 and 2 tokens, and none at all in step 7.
  [[nodiscard]] RoutedStep step(std::int64_t number,
                                const RouteShape& shape) const {
    RoutedStep step{.step = number,
                    .tokens_hash = 0xfedcba9876543210ULL +
                                   static_cast<std::uint64_t>(number),
                    .row_offsets = {0, 3, 3, 5},
                    .experts = {}};
    if (number == 7) step.row_offsets = {0};
    const std::int64_t routings =
        step.tokens() * shape.layers * shape.iterations;
    for (std::int64_t i = 0; i < routings; ++i) {
      for (std::int64_t k = 0; k < shape.top_k; ++k) {
        step.experts.push_back(static_cast<std::int32_t>(
            (i * 31 + k * 7 + number + shape.experts - 1) % shape.experts));
      }
    }
    return step;
  }
  void write(const RouteShape& shape) const {
    RouteFileWriter writer(path_, shape);
    for (const std::int64_t number : {2, 3, 7}) {
      writer.write(step(number, shape));
    }
    writer.finish();
  }
  /// What refuses these bytes, or "".
  static std::string refusal(const std::string& bytes) {
    try {
      const RouteFile file(std::as_bytes(std::span(bytes)), "routes");
      RoutedStep step;
      for (const std::int64_t number : file.steps()) file.read(number, step);
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kData);
      return error.what();
    }
    return "";
  }

  fs::path path_ =
      fs::path(testing::TempDir()) / fmt::format("routes-{}.bin", ::getpid());
  RouteShape shape_{.layers = 2, .iterations = 3, .experts = 9, .top_k = 2};
};

TEST_F(RouteFileTest, WhatIsWrittenIsRead) {
  for (const std::int64_t experts : {9, 256, 257, 65536}) {
    shape_.experts = experts;
    shape_.forced_balanced = experts == 256;
    write(shape_);
    const RouteFile file(path_);
    EXPECT_EQ(file.shape().experts, experts);
    EXPECT_EQ(file.shape().top_k, 2);
    EXPECT_EQ(file.shape().forced_balanced, experts == 256);
    file.check_shape(shape_);
    EXPECT_THAT(file.steps(), ElementsAre(2, 3, 7));
    RoutedStep found;
    for (const std::int64_t number : {3, 7, 2}) {
      const RoutedStep expected = step(number, shape_);
      file.read(number, found);
      EXPECT_EQ(found.step, number);
      EXPECT_EQ(found.tokens_hash, expected.tokens_hash);
      EXPECT_EQ(found.row_offsets, expected.row_offsets);
      EXPECT_EQ(found.experts, expected.experts);
    }
  }
}

TEST_F(RouteFileTest, AByteAChoiceIsEnoughForFewExperts) {
  write(shape_);
  const std::int64_t choices = 5 * 2 * 3 * 2;
  const std::int64_t frame = 24 + 8, rows = 3 * 4;
  EXPECT_EQ(static_cast<std::int64_t>(fs::file_size(path_)),
            48 + 2 * (frame + rows + choices) + frame + 24);
}

TEST_F(RouteFileTest, EveryTruncationAndEveryFlippedBitIsRefused) {
  write(shape_);
  const std::string whole = read_file(path_);
  ASSERT_EQ(refusal(whole), "");
  for (std::size_t size = 0; size < whole.size(); ++size) {
    EXPECT_THAT(refusal(whole.substr(0, size)), HasSubstr("routes: offset "))
        << size;
  }
  for (std::size_t at = 0; at < whole.size(); ++at) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string flipped = whole;
      flipped[at] = static_cast<char>(flipped[at] ^ (1 << bit));
      EXPECT_THAT(refusal(flipped), HasSubstr("routes: offset "))
          << at << " bit " << bit;
    }
  }
  EXPECT_THAT(refusal(whole + "x"), HasSubstr("1 bytes follow the end"));
}

TEST_F(RouteFileTest, ForeignFilesAreToldFromDamagedOnes) {
  EXPECT_THAT(refusal("{\"a\": 1}"),
              HasSubstr("offset 0: this is no file of routes"));
  write(shape_);
  std::string bytes = read_file(path_);
  bytes[8] = 2;
  EXPECT_THAT(refusal(bytes), HasSubstr("offset 8: version 2"));
  EXPECT_THROW(RouteFile("/nowhere/routes"), Error);
}

// Hashes that fit, and nonsense beneath them.
TEST_F(RouteFileTest, ExpertsThatDoNotExistOrComeTwiceAreRefused) {
  for (const auto& [first, second, message] :
       {std::tuple{9, 1, "offset 84: expert 9 of 9"},
        {4, 4, "offset 85: a token chose expert 4 twice"}}) {
    RoutedStep wrong = step(2, shape_);
    wrong.experts[0] = first;
    wrong.experts[1] = second;
    RouteFileWriter writer(path_, shape_);
    writer.write(wrong);
    writer.finish();
    EXPECT_THAT(refusal(read_file(path_)), HasSubstr(message));
  }
}

TEST_F(RouteFileTest, RoutesOfAnotherModelOrStepAreRefused) {
  write(shape_);
  const RouteFile file(path_);
  RouteShape other = shape_;
  other.experts = 8;
  try {
    file.check_shape(other);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kData);
    EXPECT_THAT(error.what(),
                HasSubstr("routes of 2 chain layers, 3 iterations, 9 experts, "
                          "top_k 2; the model has 2 chain layers, 3 "
                          "iterations, 8 experts"));
  }
  RoutedStep found;
  try {
    file.read(4, found);
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(),
                HasSubstr("step 4 is not there; it holds 3 steps, 2 to 7"));
  }
}

TEST_F(RouteFileTest, NothingIsThereBeforeTheEnd) {
  {
    RouteFileWriter writer(path_, shape_);
    writer.write(step(2, shape_));
    EXPECT_THROW(writer.write(step(2, shape_)), Error);
  }
  EXPECT_FALSE(fs::exists(path_));
}

}  // namespace
}  // namespace catena
