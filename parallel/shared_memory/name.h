#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace catena::shared_memory {

constexpr const char* kFolder = "/dev/shm";

/// "/catena-TOKEN-".
[[nodiscard]] std::string name_prefix(std::string_view token);

/// Makes a name in /dev/shm that is taken by nobody. It is locked (flock) until
/// its descriptor, which the caller closes, is closed, and so at the latest
/// when this process is gone. -1, and errno, where it cannot be made.
[[nodiscard]] int make_name(const std::string& name);

/// Removes the names of this user that nobody holds any more, of all runs but
/// that of `token`, whose ranks are to see who of them has died: of ranks that
/// were killed while they met, with all that would have swept after them. What
/// cannot be looked at stays. Returns them.
std::vector<std::string> sweep_abandoned(std::string_view token);

}  // namespace catena::shared_memory
