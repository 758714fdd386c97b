#include "runtime/base/hash.h"

#include <gtest/gtest.h>

namespace catena {
namespace {

TEST(HashTest, KnownAnswers) {
  EXPECT_EQ(hash64(""), 0x2D06800538D394C2U);
  EXPECT_EQ(hash64("abc"), 0x78AF5F94892F3950U);
}

TEST(HashTest, BytesAndTextAgree) {
  const std::string text(1000, 'x');
  EXPECT_EQ(hash64(std::as_bytes(std::span(text.data(), text.size()))),
            hash64(text));
  EXPECT_NE(hash64(text), hash64(text.substr(1)));
}

TEST(HashTest, HexadecimalHasSixteenDigits) {
  EXPECT_EQ(hexadecimal(0xAB), "00000000000000ab");
  EXPECT_EQ(hexadecimal(~std::uint64_t{0}), "ffffffffffffffff");
}

}  // namespace
}  // namespace catena
