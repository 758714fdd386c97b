#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <unordered_map>

namespace catena::launcher {

/// Where a piece of text about hosts begins, and what is said of it.
struct TextPlace {
  std::string before;      ///< "hosts.txt:3:" or "--hosts: column "
  std::size_t column = 1;  ///< in bytes, of the piece's first

  /// The place `bytes` further on.
  [[nodiscard]] TextPlace after(std::size_t bytes) const {
    return {before, column + bytes};
  }
  /// Throws: Error(kConfig) with the place and `message`.
  [[noreturn]] void refuse(std::string_view message) const;
};
[[nodiscard]] TextPlace place_in_list(std::string_view source);
[[nodiscard]] TextPlace place_in_file(std::string_view path, std::size_t line);

inline constexpr std::size_t kMostNameBytes = 255;

/// That `text` is letters, digits, "-", "_" and ".".
/// Throws: Error(kConfig) at the first other byte, `what` naming the text.
void check_characters(std::string_view text, std::string_view what,
                      const TextPlace& at);
[[noreturn]] void refuse_length(std::string_view what, const TextPlace& at);
/// That `name` is one to 255 letters, digits, "-", "_" and ".", and does not
/// begin with a dash, which programs would take for an option.
/// Throws: Error(kConfig), `what` naming it: "a host's name".
void check_name(std::string_view name, std::string_view what,
                const TextPlace& at);

/// A whole decimal number from 1 to `most`.
/// Throws: Error(kConfig), `what` naming it: "the number of slots".
[[nodiscard]] int parse_count(std::string_view text, std::string_view what,
                              std::size_t most, const TextPlace& at);

/// Names seen so far. Names of hosts differ in more than case.
class SeenNames {
 public:
  /// Throws: Error(kConfig) where `name` was seen before, and where.
  void add(std::string_view name, const TextPlace& at);

 private:
  std::unordered_map<std::string, TextPlace> first_;
};

}  // namespace catena::launcher
