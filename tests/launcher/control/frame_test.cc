#include "launcher/control/frame.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "runtime/base/error.h"

namespace catena::launcher::control {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

const Secret& key() {
  static const Secret kKey(std::string(32, 'k'));
  return kKey;
}

/// All contents in `bytes`, which come in pieces.
std::vector<std::string> read(const std::string& bytes, std::size_t piece,
                              std::size_t most) {
  FrameReader reader(most);
  std::vector<std::string> result;
  for (std::size_t at = 0; at < bytes.size(); at += piece) {
    reader.add(std::string_view(bytes).substr(at, piece));
    while (auto content = reader.next()) result.push_back(*content);
  }
  return result;
}

template <class Function>
std::string refusal_of(Function function) {
  try {
    function();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kData) << error.what();
    return error.what();
  }
  return "";
}

/// The content of the only frame in `bytes`.
std::string content_of(const std::string& bytes) {
  FrameReader reader(kMaxSealedBytes);
  reader.add(bytes);
  return reader.next().value();
}

TEST(FrameTest, FramesAreCutWhereverTheWireCutsThem) {
  const std::string bytes =
      frame("one", 512) + frame("", 512) + frame(std::string(512, 'x'), 512);
  for (const std::size_t piece : {1, 2, 3, 4, 5, 7, 100, 1000}) {
    EXPECT_THAT(read(bytes, piece, 512),
                ElementsAre("one", "", std::string(512, 'x')))
        << piece;
  }
}

TEST(FrameTest, ATruncatedFrameIsNone) {
  const std::string bytes = frame("whole", 512);
  for (std::size_t length = 0; length < bytes.size(); ++length) {
    EXPECT_TRUE(read(bytes.substr(0, length), 1, 512).empty());
  }
}

TEST(FrameTest, AClaimedLengthIsRefusedBeforeItTakesMemory) {
  for (const std::string& length :
       {std::string("\x01\x02\x00\x00", 4), std::string("\x00\x00\x00\x80", 4),
        std::string("\xff\xff\xff\xff", 4), std::string("GET ")}) {
    EXPECT_THAT(refusal_of([&] { read(length, 4, 512); }),
                HasSubstr("512 are the most"));
  }
  FrameReader reader(kMaxSealedBytes);
  reader.add(std::string("\x00\x00\x10\x00", 4));
  EXPECT_EQ(reader.next(), std::nullopt);
  EXPECT_EQ(reader.held(), 4U);
}

TEST(FrameTest, TheLimitRisesForFramesThatCameAlready) {
  FrameReader reader(4);
  reader.add(frame("four", 4) + frame("longer", 6));
  EXPECT_EQ(reader.next(), "four");
  reader.allow(6);
  EXPECT_EQ(reader.next(), "longer");
}

TEST(FrameTest, NothingLongerIsWritten) {
  EXPECT_THROW(static_cast<void>(frame("12345", 4)), Error);
  Sealer sealer(key());
  EXPECT_THROW(
      static_cast<void>(sealer.seal(std::string(kMaxMessageBytes + 1, 'x'))),
      Error);
  const std::string most(kMaxMessageBytes, 'x');
  Opener opener(key());
  EXPECT_EQ(opener.open(content_of(sealer.seal(most))), most);
}

TEST(SealTest, MessagesComeAsTheyWereSealed) {
  Sealer sealer(key());
  Opener opener(key());
  for (const char* message : {"", "a", "second", "third"}) {
    EXPECT_EQ(opener.open(content_of(sealer.seal(message))), message);
  }
}

TEST(SealTest, NoBitCanBeChanged) {
  const std::string whole = Sealer(key()).seal("message");
  for (std::size_t bit = 0; bit < whole.size() * 8; ++bit) {
    std::string changed = content_of(whole);
    if (bit < kLengthBytes * 8) continue;
    auto& byte = changed[bit / 8 - kLengthBytes];
    byte = static_cast<char>(byte ^ (1 << (bit % 8)));
    EXPECT_THAT(
        refusal_of([&] { static_cast<void>(Opener(key()).open(changed)); }),
        HasSubstr("did not make"))
        << bit;
  }
}

TEST(SealTest, NoneCanBeShortenedOrLengthened) {
  const std::string content = content_of(Sealer(key()).seal("message"));
  for (std::size_t length = 0; length < content.size(); ++length) {
    EXPECT_NE(
        refusal_of([&] {
          static_cast<void>(Opener(key()).open(content.substr(0, length)));
        }),
        "");
  }
  EXPECT_NE(
      refusal_of([&] { static_cast<void>(Opener(key()).open(content + "x")); }),
      "");
}

TEST(SealTest, ReplayedAndMissingFramesAreNamed) {
  Sealer sealer(key());
  const std::string first = content_of(sealer.seal("a"));
  const std::string second = content_of(sealer.seal("b"));
  Opener opener(key());
  EXPECT_EQ(opener.open(first), "a");
  EXPECT_THAT(refusal_of([&] { static_cast<void>(opener.open(first)); }),
              HasSubstr("frame 0 came where 1 was due: replayed"));
  Opener other(key());
  EXPECT_THAT(refusal_of([&] { static_cast<void>(other.open(second)); }),
              HasSubstr("frame 1 came where 0 was due: others are missing"));
}

TEST(SealTest, AKeyOfAnotherDirectionOrConnectionOpensNothing) {
  const std::string content =
      content_of(Sealer(key().derived("there")).seal("a"));
  EXPECT_THAT(refusal_of([&] {
                static_cast<void>(Opener(key().derived("back")).open(content));
              }),
              HasSubstr("did not make"));
}

TEST(SecretTest, AgreesWithThePublishedVector) {
  // RFC 4231, test case 6: a key of 131 bytes.
  const Mac mac = Secret(std::string(131, '\xaa'))
                      .mac(
                          "Test Using Larger Than Block-Size Key - Hash Key "
                          "First");
  std::string digits;
  for (const unsigned char byte : mac) digits += fmt::format("{:02x}", byte);
  EXPECT_EQ(digits,
            "60e431591ee0b67f0d8a26aacbf5b77f"
            "8e0bc6213728c5140546040f0ee37f54");
}

TEST(SecretTest, ShortOnesAreRefused) {
  EXPECT_THROW(Secret(std::string(31, 'x')), Error);
}

}  // namespace
}  // namespace catena::launcher::control
