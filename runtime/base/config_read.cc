#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>

#include "runtime/base/config_table.h"
#include "runtime/base/nearest.h"
#include "runtime/base/toml.h"

namespace catena::config {
namespace {

std::string describe_text(std::string_view text) {
  constexpr std::size_t kLongest = 40;
  if (text.size() <= kLongest) return toml_quoted(text);
  std::size_t end = kLongest;
  // Not inside a UTF-8 sequence.
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) {
    --end;
  }
  return toml_quoted(text.substr(0, end)) + "...";
}

std::string describe(const toml::node& node) {
  switch (node.type()) {
    case toml::node_type::string:
      return "the text " + describe_text(**node.as_string());
    case toml::node_type::integer:
      return fmt::format("{}", **node.as_integer());
    case toml::node_type::floating_point:
      return fmt::format("{}", **node.as_floating_point());
    case toml::node_type::boolean:
      return **node.as_boolean() ? "true" : "false";
    case toml::node_type::array:
      return "a list";
    case toml::node_type::table:
      return "a table";
    case toml::node_type::date:
    case toml::node_type::time:
    case toml::node_type::date_time:
      return "a date or time";
    case toml::node_type::none:
      return "nothing";
  }
  return "nothing";
}

std::string ranged(std::string noun, const std::string& range) {
  if (range.empty()) return noun;
  const bool both = range.find(" to ") != std::string::npos;
  return fmt::format("{}{}{}", noun, both ? " from " : " ", range);
}

std::string requirement(const Key& key) {
  switch (key.type) {
    case Type::kInteger:
      return ranged("an integer", key.range);
    case Type::kNumber:
      return ranged("a finite number", key.range);
    case Type::kSwitch:
      return "true or false";
    case Type::kText:
    case Type::kTexts:
      break;
  }
  if (!key.choices.empty()) {
    return fmt::format("{}one of {}",
                       key.type == Type::kTexts ? "a list, each " : "",
                       fmt::join(key.choices, ", "));
  }
  return key.type == Type::kText ? "text" : "text or a list of texts";
}

bool reads_as_number(std::string_view text) {
  double value = 0;
  const auto [end, code] =
      std::from_chars(text.data(), text.data() + text.size(), value);
  return code == std::errc() && end == text.data() + text.size();
}

std::string hint_for_text(const Key& key, const toml::node& node) {
  const std::string text =
      node.value_exact<std::string>().value_or("").substr(0, kLongestGuess);
  if (const auto near = nearest_name(text, key.choices); !near.empty()) {
    return fmt::format("; did you mean {}?", near);
  }
  if (!node.is_string() && !node.is_array() && !node.is_table()) {
    return "; put it in quotes";
  }
  return "";
}

// What to do about a value of the wrong kind, where that is plain.
std::string hint(const Key& key, const toml::node& node) {
  const auto text = node.value_exact<std::string>();
  const auto number = node.value_exact<double>();
  const auto integer = node.value_exact<std::int64_t>();
  switch (key.type) {
    case Type::kInteger:
      if (number && std::abs(*number) < 1e15 &&
          *number == std::nearbyint(*number)) {
        return fmt::format("; write {:.0f}", *number);
      }
      [[fallthrough]];
    case Type::kNumber:
      return text && reads_as_number(*text) ? "; leave out the quotes" : "";
    case Type::kSwitch:
      if (text == "true" || text == "false") return "; leave out the quotes";
      if (integer == 0) return "; write false";
      if (integer == 1) return "; write true";
      return "";
    case Type::kText:
    case Type::kTexts:
      return hint_for_text(key, node);
  }
  return "";
}

// Assigns and returns nothing, or returns the node that cannot be taken.
const toml::node* assign(Field& field, std::int64_t& value,
                         const toml::node& node) {
  const auto seen = node.value_exact<std::int64_t>();
  if (!seen || *seen < field.minimum_integer || *seen > field.maximum_integer) {
    return &node;
  }
  value = *seen;
  return nullptr;
}

const toml::node* assign(Field& field, double& value, const toml::node& node) {
  double seen = std::nan("");
  if (const auto number = node.value_exact<double>()) seen = *number;
  if (const auto integer = node.value_exact<std::int64_t>()) {
    seen = static_cast<double>(*integer);
  }
  if (!std::isfinite(seen) || seen < field.minimum_number ||
      seen > field.maximum_number) {
    return &node;
  }
  value = seen;
  return nullptr;
}

const toml::node* assign(Field&, bool& value, const toml::node& node) {
  const auto seen = node.value_exact<bool>();
  if (!seen) return &node;
  value = *seen;
  return nullptr;
}

const toml::node* assign(Field& field, std::string& value,
                         const toml::node& node) {
  const auto& choices = field.key.choices;
  const auto seen = node.value_exact<std::string>();
  if (!seen) return &node;
  if (!choices.empty() &&
      std::find(choices.begin(), choices.end(), *seen) == choices.end()) {
    return &node;
  }
  value = *seen;
  return nullptr;
}

const toml::node* assign(Field& field, std::vector<std::string>& value,
                         const toml::node& node) {
  std::vector<std::string> texts;
  const toml::array* list = node.as_array();
  if (list == nullptr) {
    const auto* refused = assign(field, texts.emplace_back(), node);
    if (refused != nullptr) return refused;
  } else {
    for (const toml::node& element : *list) {
      const auto* refused = assign(field, texts.emplace_back(), element);
      if (refused != nullptr) return refused;
    }
  }
  value = std::move(texts);
  return nullptr;
}

std::string place(const std::string& name, const toml::source_region& at) {
  return fmt::format("{}:{}:{}", name, at.begin.line, at.begin.column);
}

// `origin_of` gives the origin of a node: a place in a file, or a flag.
template <class OriginOf>
void take(Table& table, Field& field, const toml::node& node,
          OriginOf origin_of) {
  const toml::node* refused = std::visit(
      [&](auto* target) { return assign(field, *target, node); }, field.target);
  if (refused != nullptr) {
    table.problems.push_back(fmt::format(
        "{}: {} must be {}, not {}{}", origin_of(*refused), field.key.path,
        requirement(field.key), describe(*refused), hint(field.key, *refused)));
    return;
  }
  field.given = true;
  field.key.origin = origin_of(node);
}

// A key of a file as messages show it: on one line and not too long.
std::string shown(std::string_view key) {
  constexpr std::string_view kBare =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";
  const bool plain = !key.empty() && key.size() <= 80 &&
                     key.find_first_not_of(kBare) == std::string_view::npos;
  return plain ? std::string(key) : describe_text(key);
}

struct Document {
  Table& table;
  const std::string& name;

  void read_table(const toml::table& values, const std::string& prefix) {
    for (const auto& [key, node] : values) {
      const std::string part = shown(key.str());
      read_node(key, node,
                prefix.empty() ? part : fmt::format("{}.{}", prefix, part));
    }
  }

  void read_node(const toml::key& key, const toml::node& node,
                 const std::string& path) {
    if (Field* field = table.find(path)) {
      take(table, *field, node,
           [this](const toml::node& at) { return place(name, at.source()); });
      return;
    }
    const bool section = table.has_section(path);
    if (section && node.is_table()) {
      read_table(*node.as_table(), path);
      return;
    }
    table.problems.push_back(fmt::format("{}: {}", place(name, key.source()),
                                         refusal(path, node, section)));
  }

  [[nodiscard]] std::string refusal(const std::string& path,
                                    const toml::node& node,
                                    bool section) const {
    if (section) {
      return fmt::format("{} is a section, not {}; write [{}] and its keys",
                         path, describe(node), path);
    }
    if (!node.is_table()) return unknown_key(table, path);
    const std::string near = table.nearest_section(path);
    if (near.empty()) return unknown_key(table, path);
    return fmt::format("unknown section {}; did you mean {}?", path, near);
  }
};

// The value of "value = TEXT", or an empty table and why it is no TOML.
toml::table parse_value(std::string_view text, std::string& reason) {
  try {
    toml::table result = toml::parse(fmt::format("value = {}\n", text));
    if (result.size() == 1) return result;
    reason = "more than one value";
  } catch (const toml::parse_error& problem) {
    reason = problem.description();
  }
  return {};
}

// Text that says it is TOML: a quoted string or, for a list key, a list.
bool looks_like_toml(Type type, std::string_view text) {
  const auto first = text.find_first_not_of(" \t");
  if (first == std::string_view::npos) return false;
  const char c = text[first];
  return c == '"' || c == '\'' || (type == Type::kTexts && c == '[');
}

}  // namespace

void read_document(Table& table, std::string_view text, const std::string& name,
                   std::string_view section) {
  try {
    toml::table values = toml::parse(text, name);
    if (!section.empty()) {
      for (auto at = values.begin(); at != values.end();) {
        at = at->first.str() == section ? std::next(at) : values.erase(at);
      }
    }
    Document{table, name}.read_table(values, "");
  } catch (const toml::parse_error& problem) {
    table.problems.push_back(fmt::format("{}: not valid TOML: {}",
                                         place(name, problem.source()),
                                         problem.description()));
  }
}

void read_value(Table& table, Field& field, std::string_view text, bool bare,
                const std::string& origin) {
  const Type type = field.key.type;
  const bool holds_text = type == Type::kText || type == Type::kTexts;
  std::string toml_text(text);
  if (bare && holds_text && !looks_like_toml(type, text)) {
    // Nothing at all is no file rather than a file without a name.
    toml_text = type == Type::kTexts && text.empty() ? "[]" : toml_quoted(text);
  }
  std::string reason;
  const toml::table value = parse_value(toml_text, reason);
  if (value.empty()) {
    table.problems.push_back(
        fmt::format("{}: {} must be {}, not {}: {}", origin, field.key.path,
                    requirement(field.key), describe_text(text), reason));
    return;
  }
  take(table, field, value.begin()->second,
       [&origin](const toml::node&) { return origin; });
}

bool valid_comment(std::string_view text) {
  try {
    return text.find('\n') == std::string_view::npos &&
           toml::parse(fmt::format("# {}\n", text)).empty();
  } catch (const toml::parse_error&) {
    return false;
  }
}

}  // namespace catena::config
