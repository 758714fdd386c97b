#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace catena::data {

/// "line:column" of a byte offset, both from 1, columns in bytes.
[[nodiscard]] std::string line_and_column(std::string_view text,
                                          std::size_t offset);

/// Throws: Error(kData), "NAME:LINE:COLUMN: not valid JSON: ...".
[[nodiscard]] nlohmann::json parse_json(std::string_view text,
                                        const std::string& name);

/// A value inside a JSON file that knows its file and key, for messages.
/// Borrows the value.
class JsonNode {
 public:
  JsonNode(const nlohmann::json& value, std::string file, std::string path)
      : value_(&value), file_(std::move(file)), path_(std::move(path)) {}

  [[nodiscard]] const nlohmann::json& value() const { return *value_; }
  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] bool is_null() const { return value_->is_null(); }

  /// A member; null if there is none. The node must be an object.
  [[nodiscard]] JsonNode member(const std::string& key) const;
  [[nodiscard]] JsonNode element(std::size_t index) const;
  /// Number of elements. The node must be an array.
  [[nodiscard]] std::size_t size() const;

  /// All of these throw Error(kData) naming file and key.
  [[nodiscard]] const std::string& text() const;
  [[nodiscard]] std::int64_t integer() const;
  [[nodiscard]] std::int64_t count() const;  ///< an integer, not below 0
  [[nodiscard]] double number() const;
  [[nodiscard]] bool flag() const;
  [[nodiscard]] bool flag_or(bool otherwise) const {
    return is_null() ? otherwise : flag();
  }
  void require_object() const;
  [[noreturn]] void refuse(const std::string& what) const;

 private:
  [[noreturn]] void wrong_type(std::string_view wanted) const;

  const nlohmann::json* value_;
  std::string file_, path_;
};

}  // namespace catena::data
