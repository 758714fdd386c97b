#include "tests/support/private_disk.h"

#include <sched.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <system_error>
#include <utility>

namespace catena {
namespace {

void require(int result, const char* what) {
  if (result == 0) return;
  throw std::system_error(errno, std::generic_category(), what);
}

std::string size_option(std::int64_t bytes) {
  return "size=" + std::to_string(bytes);
}

// Root may; others may as root of a user namespace, where there are any.
bool leave_mount_namespace() {
  if (::unshare(CLONE_NEWNS) == 0) return true;
  const auto user = ::getuid();
  const auto group = ::getgid();
  if (::unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) return false;
  std::ofstream("/proc/self/setgroups") << "deny";
  std::ofstream("/proc/self/uid_map") << "0 " << user << " 1";
  std::ofstream("/proc/self/gid_map") << "0 " << group << " 1";
  return true;
}

}  // namespace

std::string keep_mounts_private() {
  if (leave_mount_namespace() &&
      ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0) {
    return "";
  }
  return std::string("mounts of a process of its own: ") + std::strerror(errno);
}

PrivateDisk::PrivateDisk(std::filesystem::path folder, std::int64_t bytes)
    : folder_(std::move(folder)) {
  std::filesystem::create_directories(folder_);
  require(::mount("private", folder_.c_str(), "tmpfs", 0,
                  size_option(bytes).c_str()),
          "mount");
}

PrivateDisk::~PrivateDisk() { ::umount2(folder_.c_str(), MNT_DETACH); }

void PrivateDisk::resize(std::int64_t bytes) {
  require(::mount("private", folder_.c_str(), "tmpfs", MS_REMOUNT,
                  size_option(bytes).c_str()),
          "resize");
}

ReadOnlyFolder::ReadOnlyFolder(std::filesystem::path folder)
    : folder_(std::move(folder)) {
  require(::mount(folder_.c_str(), folder_.c_str(), nullptr, MS_BIND, nullptr),
          "mount again");
  require(::mount(nullptr, folder_.c_str(), nullptr,
                  MS_REMOUNT | MS_BIND | MS_RDONLY, nullptr),
          "make read-only");
}

ReadOnlyFolder::~ReadOnlyFolder() { ::umount2(folder_.c_str(), MNT_DETACH); }

}  // namespace catena
