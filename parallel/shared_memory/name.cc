#include "parallel/shared_memory/name.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <filesystem>

#include "runtime/base/error.h"

namespace catena::shared_memory {
namespace {

constexpr std::string_view kOurs = "/catena-";

/// Whether it has a name still.
bool is_named(int descriptor) {
  struct stat status {};
  return fstat(descriptor, &status) == 0 && status.st_nlink > 0;
}

bool lock(int descriptor, int how) {
  while (flock(descriptor, how) != 0) {
    if (errno != EINTR) return false;
  }
  return true;
}

bool is_abandoned(int descriptor) {
  struct stat status {};
  return fstat(descriptor, &status) == 0 && S_ISREG(status.st_mode) &&
         status.st_uid == geteuid() && lock(descriptor, LOCK_EX | LOCK_NB) &&
         is_named(descriptor);
}

}  // namespace

std::string name_prefix(std::string_view token) {
  CATENA_CHECK(!token.empty() &&
                   std::all_of(token.begin(), token.end(),
                               [](unsigned char c) { return isalnum(c) != 0; }),
               "[shared memory] token \"{}\": letters and digits only", token);
  return fmt::format("{}{}-", kOurs, token);
}

int make_name(const std::string& name) {
  for (;;) {
    const int descriptor =
        shm_open(name.c_str(), O_RDWR | O_CREAT | O_EXCL, S_IRUSR | S_IWUSR);
    if (descriptor < 0) return -1;
    // Who sweeps may have come between; where nobody can lock, nobody sweeps.
    if (!lock(descriptor, LOCK_EX) || is_named(descriptor)) return descriptor;
    ::close(descriptor);
  }
}

std::vector<std::string> sweep_abandoned(std::string_view token) {
  const std::string own = fmt::format("{}{}", kOurs, token);
  std::vector<std::string> names;
  std::error_code none;
  for (const auto& entry : std::filesystem::directory_iterator(kFolder, none)) {
    const std::string name = "/" + entry.path().filename().string();
    if (!name.starts_with(kOurs) || name.starts_with(own)) continue;
    const int descriptor = shm_open(name.c_str(), O_RDWR, 0);
    if (descriptor < 0) continue;
    if (is_abandoned(descriptor) && shm_unlink(name.c_str()) == 0) {
      names.push_back(name);
    }
    ::close(descriptor);
  }
  return names;
}

}  // namespace catena::shared_memory
