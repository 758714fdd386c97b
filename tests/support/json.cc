#include "tests/support/json.h"

namespace nlohmann {

void PrintTo(const json& value, std::ostream* out) { *out << value.dump(); }

}  // namespace nlohmann

namespace catena {

nlohmann::json json_of(std::string_view text) {
  return nlohmann::json::parse(text);
}

nlohmann::json json_if_whole(std::string_view text) {
  return nlohmann::json::parse(text, nullptr, false);
}

std::string json_text(const nlohmann::json& value) { return value.dump(); }

}  // namespace catena
