#include "training/data/byte_alphabet.h"

#include <array>

#include "training/data/utf8.h"

namespace catena::data {
namespace {

constexpr int kCharacters = 0x144;

struct Alphabet {
  std::array<std::string, 256> spelling;
  std::array<int, kCharacters> byte;  // -1: not in the alphabet

  Alphabet() {
    byte.fill(-1);
    int next = 256;
    for (int b = 0; b < 256; ++b) {
      const bool printable =
          (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
      const int character = printable ? b : next++;
      byte[static_cast<std::size_t>(character)] = b;
      auto& text = spelling[static_cast<std::size_t>(b)];
      if (character < 0x80) {
        text = static_cast<char>(character);
      } else {
        text = {static_cast<char>(0xC0 | character >> 6),
                static_cast<char>(0x80 | (character & 0x3F))};
      }
    }
  }
};

const Alphabet& alphabet() {
  static const Alphabet instance;
  return instance;
}

}  // namespace

std::string_view spelled_byte(std::uint8_t byte) {
  return alphabet().spelling[byte];
}

std::string spelled(std::string_view bytes) {
  std::string out;
  for (const char c : bytes) out += spelled_byte(static_cast<std::uint8_t>(c));
  return out;
}

std::optional<std::string> unspelled(std::string_view spelling) {
  if (invalid_utf8(spelling) != std::string_view::npos) return std::nullopt;
  std::string out;
  for (std::size_t i = 0; i < spelling.size();) {
    const CodePoint character = code_point(spelling, i);
    if (character.value >= kCharacters) return std::nullopt;
    const int byte = alphabet().byte[character.value];
    if (byte < 0) return std::nullopt;
    out += static_cast<char>(byte);
    i += character.bytes;
  }
  return out;
}

}  // namespace catena::data
