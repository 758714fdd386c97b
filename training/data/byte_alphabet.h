#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace catena::data {

/// The printable alphabet in which byte-level tokenizers spell bytes: bytes
/// 33-126, 161-172 and 174-255 stand for the characters of the same number,
/// the other 68, in order, for U+0100 to U+0143. A space is "Ġ" (U+0120).
/// Source: GPT-2's bytes_to_unicode.

/// The character of a byte, in UTF-8. Valid for the life of the program.
[[nodiscard]] std::string_view spelled_byte(std::uint8_t byte);

/// `bytes` in the alphabet.
[[nodiscard]] std::string spelled(std::string_view bytes);

/// The bytes that `spelling` stands for, or nothing if it holds a character
/// outside the alphabet or is not UTF-8.
[[nodiscard]] std::optional<std::string> unspelled(std::string_view spelling);

}  // namespace catena::data
