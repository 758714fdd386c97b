#include "launcher/lock_holder.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <utility>

#include "runtime/base/error.h"

// glibc 2.36 does not say it of its own.
extern "C" {
#include <sys/pidfd.h>
}

namespace catena::launcher {
namespace {

namespace fs = std::filesystem;

bool has_open(int process, const struct stat& file) {
  std::error_code none;
  for (const auto& entry :
       fs::directory_iterator(fmt::format("/proc/{}/fd", process), none)) {
    struct stat open {};
    if (::stat(entry.path().c_str(), &open) == 0 &&
        open.st_dev == file.st_dev && open.st_ino == file.st_ino) {
      return true;
    }
  }
  return false;
}

}  // namespace

std::optional<LockHolder> LockHolder::find(const fs::path& lock) {
  struct stat file {};
  int process = 0;
  if (::stat(lock.c_str(), &file) != 0 || !S_ISREG(file.st_mode) ||
      !(std::ifstream(lock) >> process) || process <= 0) {
    return std::nullopt;
  }
  // First the descriptor: what is seen afterwards is seen of this process.
  LockHolder holder(process, ::pidfd_open(process, 0));
  if (holder.descriptor_ < 0 || !has_open(process, file) ||
      holder.wait(std::chrono::milliseconds(0))) {
    return std::nullopt;
  }
  return holder;
}

LockHolder::~LockHolder() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

LockHolder::LockHolder(LockHolder&& other) noexcept
    : process_(other.process_),
      descriptor_(std::exchange(other.descriptor_, -1)) {}

LockHolder& LockHolder::operator=(LockHolder&& other) noexcept {
  std::swap(process_, other.process_);
  std::swap(descriptor_, other.descriptor_);
  return *this;
}

void LockHolder::signal(int number) const {
  if (::pidfd_send_signal(descriptor_, number, nullptr, 0) == 0) return;
  if (errno == ESRCH) return;
  fail(ErrorKind::kIo, "process {} cannot be signalled: {}", process_,
       std::strerror(errno));
}

bool LockHolder::wait(std::chrono::milliseconds most) const {
  pollfd ended{.fd = descriptor_, .events = POLLIN, .revents = 0};
  return ::poll(&ended, 1, static_cast<int>(most.count())) > 0;
}

}  // namespace catena::launcher
