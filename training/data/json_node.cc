#include "training/data/json_node.h"

#include <algorithm>

#include "runtime/base/error.h"
#include "training/data/utf8.h"

namespace catena::data {

std::string line_and_column(std::string_view text, std::size_t offset) {
  const std::string_view before = text.substr(0, offset);
  const auto line = std::count(before.begin(), before.end(), '\n') + 1;
  const auto newline = before.rfind('\n');
  const std::size_t column =
      newline == std::string_view::npos ? offset + 1 : offset - newline;
  return fmt::format("{}:{}", line, column);
}

nlohmann::json parse_json(std::string_view text, const std::string& name) {
  const std::size_t invalid = invalid_utf8(text);
  if (invalid != std::string_view::npos) {
    fail(ErrorKind::kData, "{}:{}: byte 0x{:02X} is not valid UTF-8", name,
         line_and_column(text, invalid),
         static_cast<unsigned char>(text[invalid]));
  }
  try {
    return nlohmann::json::parse(text);
  } catch (const nlohmann::json::exception& error) {
    const auto* syntax =
        dynamic_cast<const nlohmann::json::parse_error*>(&error);
    const std::size_t offset =
        syntax == nullptr || syntax->byte == 0 ? 0 : syntax->byte - 1;
    // The library's text is "[id] parse error at line L, column C: reason".
    std::string_view what = error.what();
    const auto reason = what.find(": ");
    if (reason != std::string_view::npos) what.remove_prefix(reason + 2);
    fail(ErrorKind::kData, "{}:{}: not valid JSON: {}", name,
         line_and_column(text, std::min(offset, text.size())), what);
  }
}

JsonNode JsonNode::member(const std::string& key) const {
  static const nlohmann::json kNull;
  require_object();
  const auto found = value_->find(key);
  std::string path = path_.empty() ? key : path_ + "." + key;
  return {found == value_->end() ? kNull : *found, file_, std::move(path)};
}

JsonNode JsonNode::element(std::size_t index) const {
  return {(*value_)[index], file_, fmt::format("{}[{}]", path_, index)};
}

std::size_t JsonNode::size() const {
  if (!value_->is_array()) wrong_type("an array");
  return value_->size();
}

const std::string& JsonNode::text() const {
  if (!value_->is_string()) wrong_type("a string");
  return value_->get_ref<const std::string&>();
}

std::int64_t JsonNode::integer() const {
  if (!value_->is_number_integer()) wrong_type("an integer");
  if (value_->is_number_unsigned() &&
      value_->get<std::uint64_t>() > std::uint64_t{INT64_MAX}) {
    refuse("is too large");
  }
  return value_->get<std::int64_t>();
}

std::int64_t JsonNode::count() const {
  const std::int64_t value = integer();
  if (value < 0) refuse(fmt::format("is {}, below 0", value));
  return value;
}

double JsonNode::number() const {
  if (!value_->is_number()) wrong_type("a number");
  return value_->get<double>();
}

bool JsonNode::flag() const {
  if (!value_->is_boolean()) wrong_type("true or false");
  return value_->get<bool>();
}

void JsonNode::require_object() const {
  if (!value_->is_object()) wrong_type("an object");
}

void JsonNode::refuse(const std::string& what) const {
  fail(ErrorKind::kData, "{}: {} {}", file_, path_.empty() ? "the file" : path_,
       what);
}

void JsonNode::wrong_type(std::string_view wanted) const {
  if (value_->is_null()) {
    refuse(fmt::format("is missing; it must be {}", wanted));
  }
  refuse(fmt::format("is {} {}, expected {}",
                     value_->is_array() || value_->is_object() ? "an" : "a",
                     value_->type_name(), wanted));
}

}  // namespace catena::data
