#include "launcher/monitor/run_settings.h"

#include <algorithm>

#include "runtime/base/error.h"
#include "runtime/base/files.h"
#include "runtime/base/toml.h"

namespace catena::launcher {

RunSettings settings_of(const std::filesystem::path& config) {
  try {
    const toml::table table = toml::parse(read_file(config));
    const auto count = [&table](const char* group, const char* key) {
      return std::max<std::int64_t>(
          0, table[group][key].value_or(std::int64_t{0}));
    };
    return {count("train", "steps"), count("checkpoint", "every")};
  } catch (const Error&) {
    return {};
  } catch (const toml::parse_error&) {
    return {};
  }
}

}  // namespace catena::launcher
