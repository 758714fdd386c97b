#include "launcher/node_list.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "launcher/host_text.h"

namespace catena::launcher {
namespace {

constexpr std::size_t kMostDigits = 9;
constexpr const char* kName = "a node's name";

struct Range {
  std::size_t first, last, width;
  [[nodiscard]] std::size_t count() const { return last - first + 1; }
};

/// A piece of an item: text, or the numbers of a bracket.
struct Piece {
  std::string_view text;
  std::vector<Range> ranges;
  [[nodiscard]] bool is_text() const { return ranges.empty(); }
};

[[noreturn]] void refuse_size(const TextPlace& at) {
  at.refuse(fmt::format("more than {} nodes up to here", kMostHosts));
}

std::size_t parse_number(std::string_view text, const TextPlace& at) {
  std::size_t value = 0;
  const char* end = text.data() + text.size();
  if (text.size() > kMostDigits) at.refuse("a number of more than nine digits");
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || stop != end) {
    at.refuse(
        "a number, or two with '-' between them, as in [1,4-6], is "
        "missing here");
  }
  return value;
}

Range parse_range(std::string_view text, const TextPlace& at) {
  const std::size_t dash = text.find('-');
  const std::size_t first = parse_number(text.substr(0, dash), at);
  if (dash == std::string_view::npos) return {first, first, text.size()};
  const std::size_t last =
      parse_number(text.substr(dash + 1), at.after(dash + 1));
  if (last < first) {
    at.refuse(fmt::format("the range {} runs backwards; write {}-{}", text,
                          last, first));
  }
  return {first, last, dash};
}

/// Calls use(part, offset) for each part of `text` between commas.
template <class Use>
void for_each_part(std::string_view text, Use use) {
  for (std::size_t begin = 0;;) {
    const std::size_t comma = text.find(',', begin);
    use(text.substr(begin, comma - begin), begin);
    if (comma == std::string_view::npos) return;
    begin = comma + 1;
  }
}

/// `text` begins with '['. Returns the bracket's ranges; `end` is behind it.
std::vector<Range> parse_bracket(std::string_view text, const TextPlace& at,
                                 std::size_t& end) {
  const std::size_t close = text.find(']');
  if (close == std::string_view::npos) {
    at.refuse("'[' is not closed by a ']'");
  }
  end = close + 1;
  std::vector<Range> ranges;
  for_each_part(text.substr(1, close - 1),
                [&](std::string_view part, std::size_t offset) {
                  ranges.push_back(parse_range(part, at.after(1 + offset)));
                });
  return ranges;
}

class Expansion {
 public:
  explicit Expansion(std::string_view source) : start_(place_in_list(source)) {}

  std::vector<std::string> run(std::string_view text) {
    for (std::size_t begin = 0;;) {
      const std::size_t end = begin + item(text.substr(begin), begin);
      if (end == text.size()) return std::move(names_);
      begin = end + 1;
      if (text[end] != ',') start_.after(end).refuse("']' without '['");
    }
  }

 private:
  /// Adds the names of the item that `text` begins with. Returns its length.
  std::size_t item(std::string_view text, std::size_t offset) {
    const TextPlace at = start_.after(offset);
    std::vector<Piece> pieces;
    std::size_t count = 1, end = 0;
    while (end < text.size() && text[end] != ',' && text[end] != ']') {
      const std::size_t begin = end;
      if (text[begin] == '[') {
        std::size_t length = 0;
        pieces.push_back(
            {{}, parse_bracket(text.substr(begin), at.after(begin), length)});
        end += length;
        count = product(count, pieces.back().ranges, at.after(begin));
      } else {
        end = std::min(text.find_first_of(",[]", begin), text.size());
        pieces.push_back({text.substr(begin, end - begin), {}});
        check_characters(pieces.back().text, kName, at.after(begin));
      }
    }
    if (pieces.empty()) at.refuse("a node's name is missing here");
    // Each is a character of the name at least, and a level of expand().
    if (pieces.size() > kMostNameBytes) refuse_length(kName, at);
    if (names_.size() + count > kMostHosts) refuse_size(at);
    expand(pieces, 0, {}, at);
    return end;
  }

  static std::size_t product(std::size_t count,
                             const std::vector<Range>& ranges,
                             const TextPlace& at) {
    std::size_t sum = 0;
    for (const Range& range : ranges) {
      sum += range.count();
      if (sum * count > kMostHosts) refuse_size(at);
    }
    return sum * count;
  }

  void expand(const std::vector<Piece>& pieces, std::size_t next,
              const std::string& name, const TextPlace& at) {
    if (next == pieces.size()) {
      check_name(name, kName, at);
      seen_.add(name, at);
      names_.push_back(name);
      return;
    }
    const Piece& piece = pieces[next];
    if (piece.is_text()) {
      expand(pieces, next + 1, name + std::string(piece.text), at);
    }
    for (const Range& range : piece.ranges) {
      for (std::size_t i = range.first; i <= range.last; ++i) {
        expand(pieces, next + 1, fmt::format("{}{:0{}}", name, i, range.width),
               at);
      }
    }
  }

  TextPlace start_;
  SeenNames seen_;
  std::vector<std::string> names_;
};

}  // namespace

std::vector<std::string> expand_node_list(std::string_view text,
                                          std::string_view source) {
  return Expansion(source).run(text);
}

std::vector<int> expand_counts(std::string_view text, std::string_view source) {
  const TextPlace start = place_in_list(source);
  std::vector<int> counts;
  for_each_part(text, [&](std::string_view part, std::size_t offset) {
    const TextPlace at = start.after(offset);
    const std::size_t open = std::min(part.find("(x"), part.size());
    const int count = parse_count(part.substr(0, open),
                                  "a count, as in 2(x3),1,", kMostHosts, at);
    std::size_t times = 1;
    if (open < part.size()) {
      if (!part.ends_with(')')) at.after(open).refuse("'(' without ')'");
      const auto repeat = part.substr(open + 2, part.size() - open - 3);
      times = static_cast<std::size_t>(
          parse_count(repeat, "a repetition, as in 2(x3),", kMostHosts,
                      at.after(open + 2)));
    }
    if (counts.size() + times > kMostHosts) refuse_size(at);
    counts.insert(counts.end(), times, count);
  });
  return counts;
}

}  // namespace catena::launcher
