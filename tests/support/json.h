#pragma once

#include <nlohmann/json.hpp>
#include <ostream>
#include <string>
#include <string_view>

/// JSON in tests. Reading and writing it are compiled once, in json.cc: they
/// are most of what the library costs wherever they are used.

namespace nlohmann {

/// How GoogleTest shows a value.
void PrintTo(const json& value, std::ostream* out);

}  // namespace nlohmann

namespace catena {

/// Throws: nlohmann::json::parse_error.
[[nodiscard]] nlohmann::json json_of(std::string_view text);

/// The same, but of a line that is not whole a value that is_discarded().
[[nodiscard]] nlohmann::json json_if_whole(std::string_view text);

/// `value` on one line.
[[nodiscard]] std::string json_text(const nlohmann::json& value);

}  // namespace catena
