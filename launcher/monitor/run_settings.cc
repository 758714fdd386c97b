#include "launcher/monitor/run_settings.h"

#include <algorithm>

#include "runtime/base/error.h"
#include "runtime/base/files.h"
#include "runtime/base/toml.h"

namespace catena::launcher {

std::int64_t steps_of(const std::filesystem::path& config) {
  try {
    const toml::table table = toml::parse(read_file(config));
    return std::max<std::int64_t>(0, table["train"]["steps"].value_or(0));
  } catch (const Error&) {
    return 0;
  } catch (const toml::parse_error&) {
    return 0;
  }
}

}  // namespace catena::launcher
