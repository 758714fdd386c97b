#pragma once

#include <cstddef>
#include <string_view>

namespace catena::data {

/// Half-open range of byte offsets.
struct Span {
  std::size_t begin, end;
  bool operator==(const Span&) const = default;
};

/// Offset of the first byte that is not part of well-formed UTF-8 (overlong
/// forms, surrogates and values above U+10FFFF are malformed), or npos.
[[nodiscard]] std::size_t invalid_utf8(std::string_view text);

struct CodePoint {
  char32_t value;
  std::size_t bytes;
};

/// The character that begins at `offset`. `text` must be well-formed.
[[nodiscard]] CodePoint code_point(std::string_view text, std::size_t offset);

/// The character that ends just before `offset` > 0.
[[nodiscard]] CodePoint code_point_before(std::string_view text,
                                          std::size_t offset);

/// Unicode White_Space.
[[nodiscard]] bool is_space(char32_t value);
/// Letter, mark, digit or letter number, connector punctuation (\w).
[[nodiscard]] bool is_word(char32_t value);

/// `text` without white space at both ends; also drops U+001C to U+001F, as
/// Python's str.strip does.
[[nodiscard]] std::string_view strip(std::string_view text);

}  // namespace catena::data
