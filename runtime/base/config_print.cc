#include <fmt/format.h>

#include <cfloat>
#include <cmath>
#include <limits>

#include "runtime/base/config_table.h"
#include "runtime/base/error.h"

namespace catena::config {
namespace {

constexpr std::size_t kColumns = 80;

std::string value_text(std::int64_t value) { return fmt::format("{}", value); }

// The shortest text that reads back to the same number.
std::string value_text(double value) {
  if (value == 0 && std::signbit(value)) return "-0.0";
  return fmt::format("{}", value);
}

std::string value_text(bool value) { return value ? "true" : "false"; }

std::string value_text(const std::string& value) { return toml_quoted(value); }

std::string value_text(const std::vector<std::string>& values) {
  std::string result = "[";
  for (const std::string& value : values) {
    if (result.size() > 1) result += ", ";
    result += toml_quoted(value);
  }
  return result + "]";
}

template <class Value>
std::string join_range(bool any_minimum, bool any_maximum, Value minimum,
                       Value maximum) {
  if (any_minimum && any_maximum) return "";
  if (any_maximum) return fmt::format(">= {}", minimum);
  if (any_minimum) return fmt::format("<= {}", maximum);
  return fmt::format("{} to {}", minimum, maximum);
}

// "integer, 1 to 64, experts" and the like: all that is not the help text.
std::string facts(const Key& key) {
  std::string result = type_text(key.type);
  if (!key.range.empty()) result += ", " + key.range;
  if (!key.unit.empty()) result += ", " + key.unit;
  if (!key.choices.empty()) {
    result += fmt::format(": {}", fmt::join(key.choices, " | "));
  }
  return fmt::format("{}; default {}", result, key.default_value);
}

// Breaks at spaces so that lines with `prefix` stay within the columns.
std::string wrapped(std::string_view text, std::string_view prefix) {
  std::string result, line;
  const auto flush = [&] {
    if (!line.empty()) result += fmt::format("{}{}\n", prefix, line);
    line.clear();
  };
  while (!text.empty()) {
    const auto end = std::min(text.find_first_of(" \n"), text.size());
    const std::string_view word = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (word.empty()) continue;
    if (!line.empty() &&
        prefix.size() + line.size() + 1 + word.size() > kColumns) {
      flush();
    }
    if (!line.empty()) line += ' ';
    line += word;
  }
  flush();
  return result;
}

// A cell of a Markdown table: one line, no bar that would end the cell.
std::string cell(std::string_view text) {
  std::string result;
  for (const char c : text) {
    if (c == '|') result += '\\';
    result += c == '\n' ? ' ' : c;
  }
  return result;
}

template <class Visit>
void for_each_in(const Table& table, std::string_view section, Visit visit) {
  for (const Field& field : table.fields) {
    if (split_path(field.key.path).first == section) visit(field);
  }
}

bool has_keys(const Table& table, std::string_view section) {
  bool any = false;
  for_each_in(table, section, [&](const Field&) { any = true; });
  return any;
}

std::string explain_key(const Field& field) {
  return fmt::format("{} = {}  # {}\n{}{}", field.key.path, value_text(field),
                     field.key.origin, wrapped(field.key.help, "    "),
                     wrapped(facts(field.key), "    "));
}

std::string explain_section(const Table& table, const Section& section) {
  std::string result = section.path.empty()
                           ? std::string()
                           : fmt::format("[{}]\n", section.path);
  result += wrapped(section.help, "");
  for_each_in(table, section.path,
              [&](const Field& field) { result += explain_key(field); });
  return result;
}

std::string markdown_row(const Key& key) {
  std::string limits = key.range;
  for (const std::string& choice : key.choices) {
    limits += fmt::format("{}`{}`", limits.empty() ? "" : ", ", choice);
  }
  return fmt::format("| `{}` | {} | {} | `{}` | {} | {} |\n",
                     split_path(key.path).second, type_text(key.type),
                     cell(key.unit), cell(key.default_value), cell(limits),
                     cell(key.help));
}

constexpr std::string_view kIntroduction = R"(# Configuration

This page is the output of `catena config markdown`: every key, in the order
of the sections. A configuration is a [TOML](https://toml.io) file; a key that
is left out keeps its default.

- `--set section.key=value` on the command line wins over the file, and the
  last `--set` of a key wins over earlier ones. Text needs no quotes there:
  `--set data.train=corpus.jsonl`.
- `catena config explain section.key` prints one key, `catena config explain
  section` a whole section.
- An unknown key, a value of the wrong type or one out of its range is an
  error that names file, line and column; all problems are reported at once.
- An integer may stand where a number is expected, and a single text where a
  list of texts is.
)";

}  // namespace

std::string toml_quoted(std::string_view text) {
  std::string result = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      result += {'\\', c};
    } else if (c == '\n') {
      result += "\\n";
    } else if (c == '\t') {
      result += "\\t";
    } else if (c == '\r') {
      result += "\\r";
    } else if (byte < 0x20 || byte == 0x7F) {
      result += fmt::format("\\u{:04X}", byte);
    } else {
      result += c;
    }
  }
  return result + "\"";
}

std::string value_text(const Field& field) {
  return std::visit([](const auto* value) { return value_text(*value); },
                    field.target);
}

std::string range_text(std::int64_t minimum, std::int64_t maximum) {
  using Limits = std::numeric_limits<std::int64_t>;
  return join_range(minimum == Limits::min(), maximum == Limits::max(), minimum,
                    maximum);
}

std::string range_text(double minimum, double maximum) {
  return join_range(minimum <= -DBL_MAX, maximum >= DBL_MAX, minimum, maximum);
}

std::string type_text(Type type) {
  switch (type) {
    case Type::kInteger:
      return "integer";
    case Type::kNumber:
      return "number";
    case Type::kSwitch:
      return "true or false";
    case Type::kText:
      return "text";
    case Type::kTexts:
      return "list of texts";
  }
  return "";
}

std::string print_explanation(const Table& table, std::string_view path) {
  if (const Field* field = table.find(path)) return explain_key(*field);
  std::string result;
  for (const Section& section : table.sections) {
    const bool within = path.empty() || section.path == path ||
                        section.path.starts_with(fmt::format("{}.", path));
    if (!within || (section.help.empty() && !has_keys(table, section.path))) {
      continue;
    }
    if (!result.empty()) result += '\n';
    result += explain_section(table, section);
  }
  if (!result.empty()) return result;
  const std::string section = table.nearest_section(path);
  if (path.find('.') == std::string_view::npos && !section.empty()) {
    fail(ErrorKind::kUsage, "unknown section {}; did you mean {}?", path,
         section);
  }
  throw Error(ErrorKind::kUsage, unknown_key(table, path));
}

std::string print_markdown(const Table& table) {
  std::string result(kIntroduction);
  for (const Section& section : table.sections) {
    const bool any = has_keys(table, section.path);
    if (!any && section.help.empty()) continue;
    result += section.path.empty() ? "\n## Top level\n"
                                   : fmt::format("\n## `[{}]`\n", section.path);
    if (!section.help.empty()) result += "\n" + wrapped(section.help, "");
    if (!any) continue;
    result +=
        "\n| key | type | unit | default | range or choices | meaning |\n"
        "| --- | --- | --- | --- | --- | --- |\n";
    for_each_in(table, section.path,
                [&](const Field& field) { result += markdown_row(field.key); });
  }
  return result;
}

std::string print_toml(const Table& table, bool commented, bool origins,
                       std::string_view without) {
  std::string top, result;
  for (const Section& section : table.sections) {
    const bool left_out = !without.empty() && section.path == without;
    if (left_out || !has_keys(table, section.path)) continue;
    std::string text;
    if (commented) text += wrapped(section.help, "# ");
    if (!section.path.empty()) text += fmt::format("[{}]\n", section.path);
    for_each_in(table, section.path, [&](const Field& field) {
      const Key& key = field.key;
      if (commented) {
        text += "\n" + wrapped(key.help, "# ") + wrapped(facts(key), "# ");
      }
      text += fmt::format("{} = {}", split_path(key.path).second,
                          value_text(field));
      if (origins) {
        text += fmt::format("  # {}",
                            valid_comment(key.origin) ? key.origin : "given");
      }
      text += "\n";
    });
    // Keys without a section must come before the first section's header.
    std::string& place = section.path.empty() ? top : result;
    if (!place.empty()) place += "\n";
    place += text;
  }
  return top.empty() || result.empty() ? top + result : top + "\n" + result;
}

}  // namespace catena::config
