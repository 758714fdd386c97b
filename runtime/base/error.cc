#include "runtime/base/error.h"

#include <string_view>

namespace catena::internal {

void check_failed(const char* condition, const char* file, int line,
                  const std::string& message) {
  std::string_view path(file);
  // Paths of the build machine say nothing to a user: keep the last two parts.
  auto slash = path.rfind('/');
  if (slash != std::string_view::npos && slash > 0) {
    slash = path.rfind('/', slash - 1);
    if (slash != std::string_view::npos) path.remove_prefix(slash + 1);
  }
  throw Error(
      ErrorKind::kInvalidArgument,
      fmt::format("{} ({} is false, {}:{})", message, condition, path, line));
}

}  // namespace catena::internal
