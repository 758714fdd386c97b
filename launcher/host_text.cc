#include "launcher/host_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "runtime/base/error.h"

namespace catena::launcher {
namespace {

bool is_letter_or_digit(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
         (c >= '0' && c <= '9');
}

/// Foreign bytes do not reach a terminal.
std::string shown(char c) {
  if (c > ' ' && c <= '~') return fmt::format("'{}'", c);
  return fmt::format("byte 0x{:02x}", static_cast<unsigned char>(c));
}

std::string text_of(const TextPlace& place) {
  return fmt::format("{}{}", place.before, place.column);
}

}  // namespace

void TextPlace::refuse(std::string_view message) const {
  fail(ErrorKind::kConfig, "{}: {}", text_of(*this), message);
}

TextPlace place_in_list(std::string_view source) {
  return {fmt::format("{}: column ", source), 1};
}

TextPlace place_in_file(std::string_view path, std::size_t line) {
  return {fmt::format("{}:{}:", path, line), 1};
}

void check_characters(std::string_view text, std::string_view what,
                      const TextPlace& at) {
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (is_letter_or_digit(c) || c == '-' || c == '_' || c == '.') continue;
    at.after(i).refuse(
        fmt::format("{} cannot be in {}: that is letters, digits, '.', '-' and "
                    "'_'",
                    shown(c), what));
  }
}

void refuse_length(std::string_view what, const TextPlace& at) {
  at.refuse(
      fmt::format("{} has more than {} characters", what, kMostNameBytes));
}

void check_name(std::string_view name, std::string_view what,
                const TextPlace& at) {
  if (name.empty()) at.refuse(fmt::format("{} is missing here", what));
  if (name.front() == '-') {
    at.refuse(
        fmt::format("{} cannot begin with a dash: programs would take it "
                    "for an option",
                    what));
  }
  check_characters(name, what, at);
  if (name.size() > kMostNameBytes) refuse_length(what, at);
}

int parse_count(std::string_view text, std::string_view what, std::size_t most,
                const TextPlace& at) {
  std::size_t value = 0;
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || stop != end || value < 1 || value > most) {
    at.refuse(fmt::format("{} is a whole number from 1 to {}", what, most));
  }
  return static_cast<int>(value);
}

void SeenNames::add(std::string_view name, const TextPlace& at) {
  std::string key(name);
  std::transform(key.begin(), key.end(), key.begin(), [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  });
  const auto [first, fresh] = first_.emplace(std::move(key), at);
  if (!fresh) {
    at.refuse(fmt::format("{} is there twice, first at {}; remove one of them",
                          name, text_of(first->second)));
  }
}

}  // namespace catena::launcher
