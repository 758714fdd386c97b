#include "training/data/utf8.h"

#include <gtest/gtest.h>

#include <set>
#include <string>

#include "training/data/byte_alphabet.h"

namespace catena::data {
namespace {

using namespace std::string_literals;

constexpr auto kValid = std::string_view::npos;

TEST(Utf8Test, AcceptsWellFormedText) {
  for (const char* text :
       {"", "plain", "\x7F", "\xC2\x80", "\xDF\xBF", "\xE0\xA0\x80",
        "\xED\x9F\xBF", "\xEE\x80\x80", "\xF0\x90\x80\x80", "\xF4\x8F\xBF\xBF",
        "eight ASCII bytes and \xE6\x95\xB0"}) {
    EXPECT_EQ(invalid_utf8(text), kValid) << text;
  }
}

TEST(Utf8Test, NamesTheFirstMalformedByte) {
  for (const char* bad :
       {"\x80", "\xC0\x80", "\xC1\xBF", "\xC2", "\xE0\x9F\xBF", "\xE2\x82",
        "\xED\xA0\x80", "\xF0\x8F\xBF\xBF", "\xF4\x90\x80\x80", "\xF5", "\xFF",
        "\xE2\x28\xA1"}) {
    EXPECT_EQ(invalid_utf8("a long enough head " + std::string(bad) + "tail"),
              19U);
  }
}

TEST(Utf8Test, DecodesForwardsAndBackwards) {
  const std::string text = "a\xC3\xA9\xE6\x95\xB0\xF0\x9F\xA6\x99";
  const char32_t expected[] = {U'a', 0xE9, 0x6570, 0x1F999};
  std::size_t at = 0;
  for (const char32_t value : expected) {
    const CodePoint here = code_point(text, at);
    EXPECT_EQ(here.value, value);
    at += here.bytes;
    EXPECT_EQ(code_point_before(text, at).value, value);
  }
  EXPECT_EQ(at, text.size());
}

TEST(Utf8Test, StripsWhatPythonStrips) {
  EXPECT_EQ(strip(" \t\n x y \r\n"), "x y");
  EXPECT_EQ(strip("\xE2\x80\x83\xC2\xA0x\xE3\x80\x80\x1C"), "x");
  EXPECT_EQ(strip(" \n"), "");
  EXPECT_EQ(strip("\xE2\x80\x8Bx"), "\xE2\x80\x8Bx");  // zero width: no space
}

TEST(ByteAlphabetTest, SpellsEveryByteDifferently) {
  std::set<std::string> spellings;
  for (int byte = 0; byte < 256; ++byte) {
    const std::string raw(1, static_cast<char>(byte));
    const std::string spelling = spelled(raw);
    spellings.insert(spelling);
    EXPECT_EQ(unspelled(spelling), raw);
  }
  EXPECT_EQ(spellings.size(), 256U);
  EXPECT_EQ(spelled(" the\n"), "\xC4\xA0the\xC4\x8A");  // Ġ and Ċ
}

TEST(ByteAlphabetTest, RefusesOtherCharacters) {
  EXPECT_FALSE(unspelled(" "));
  EXPECT_FALSE(unspelled("\xE6\x95\xB0"));
  EXPECT_FALSE(unspelled("\xFF"));
}

}  // namespace
}  // namespace catena::data
