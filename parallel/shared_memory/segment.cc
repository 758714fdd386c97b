#include "parallel/shared_memory/segment.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>
#include <utility>

#include "parallel/shared_memory/name.h"
#include "runtime/base/error.h"
#include "runtime/base/machine.h"

namespace catena::shared_memory {
namespace {

/// A signal starts the reservation of such a part again.
constexpr std::size_t kReserveBytes = std::size_t{64} << 20;

template <class... Args>
[[noreturn]] void fail_io(int error, fmt::format_string<Args...> format,
                          Args&&... args) {
  fail(ErrorKind::kIo, "[shared memory] {}: {}",
       fmt::format(format, std::forward<Args>(args)...), strerror(error));
}

std::size_t rounded(std::size_t bytes) {
  const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  return (bytes + page - 1) / page * page;
}

std::size_t control_bytes(int members) {
  return rounded(sizeof(Control) + static_cast<std::size_t>(members) *
                                       Transport::kLanes * sizeof(Channel));
}

[[noreturn]] void fail_full(std::size_t wanted) {
  struct statvfs disk {};
  const bool known = statvfs(kFolder, &disk) == 0;
  const double mebi = 1024.0 * 1024.0;
  fail(ErrorKind::kDoesNotFit,
       "[shared memory] {:.1f} MiB more do not fit: {} has {:.1f} MiB of "
       "{:.1f} MiB left, and the machine {:.1f} MiB; make it larger (mount -o "
       "remount,size=..., docker run --shm-size=...), or use smaller batches",
       static_cast<double>(wanted) / mebi, kFolder,
       known ? static_cast<double>(disk.f_bavail * disk.f_frsize) / mebi : 0.0,
       known ? static_cast<double>(disk.f_blocks * disk.f_frsize) / mebi : 0.0,
       static_cast<double>(available_memory_bytes()) / mebi);
}

}  // namespace

std::size_t capacity_bytes() {
  struct statvfs disk {};
  if (statvfs(kFolder, &disk) != 0) fail_io(errno, "{}", kFolder);
  return disk.f_blocks * disk.f_frsize;
}

void LifeLock::begin() {
  pthread_mutexattr_t attributes;
  pthread_mutexattr_init(&attributes);
  pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
  pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
  int error = pthread_mutex_init(&mutex_, &attributes);
  pthread_mutexattr_destroy(&attributes);
  if (error == 0) error = pthread_mutex_lock(&mutex_);
  if (error != 0) fail_io(error, "a robust mutex");
}

void LifeLock::end() { pthread_mutex_unlock(&mutex_); }

bool LifeLock::owner_died() {
  switch (pthread_mutex_trylock(&mutex_)) {
    case EOWNERDEAD:  // opened as it is, it stays so for all
      pthread_mutex_unlock(&mutex_);
      return true;
    case ENOTRECOVERABLE:
      return true;
    case 0:
      pthread_mutex_unlock(&mutex_);
      return false;
    default:
      return false;
  }
}

Segment Segment::create(const std::string& name, int members,
                        std::size_t pool_bytes) {
  Segment segment;
  segment.descriptor_ = make_name(name);
  if (segment.descriptor_ < 0) {
    fail_io(errno, "{}{} cannot be made", kFolder, name);
  }
  segment.name_ = name;
  const std::size_t bytes = control_bytes(members) + rounded(pool_bytes);
  if (ftruncate(segment.descriptor_, static_cast<off_t>(bytes)) != 0) {
    fail_io(errno, "{}{} of {} bytes", kFolder, name, bytes);
  }
  segment.map(segment.descriptor_, members, pool_bytes);
  segment.reserve(0);
  auto* const control = new (segment.data_) Control;
  control->members = static_cast<std::uint64_t>(members);
  control->pool_bytes = pool_bytes;
  control->life.begin();
  segment.alive_ = true;
  return segment;
}

Segment Segment::open(const std::string& name, int members,
                      std::size_t pool_bytes) {
  const int descriptor = shm_open(name.c_str(), O_RDWR, 0);
  if (descriptor < 0) {
    fail(ErrorKind::kCommunication, "{}{}: {}", kFolder, name, strerror(errno));
  }
  Segment segment;
  struct stat status {};
  const bool whole = fstat(descriptor, &status) == 0 &&
                     static_cast<std::size_t>(status.st_size) ==
                         control_bytes(members) + rounded(pool_bytes);
  if (whole) segment.map(descriptor, members, pool_bytes);
  ::close(descriptor);
  if (!whole || segment.control().magic != Control::kMagic ||
      segment.control().members != static_cast<std::uint64_t>(members)) {
    fail(ErrorKind::kCommunication,
         "{}{} is not the memory of a rank of this run", kFolder, name);
  }
  return segment;
}

void Segment::map(int descriptor, int members, std::size_t pool_bytes) {
  control_bytes_ = control_bytes(members);
  const std::size_t bytes = control_bytes_ + rounded(pool_bytes);
  void* const data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                          MAP_SHARED | MAP_NORESERVE, descriptor, 0);
  if (data == MAP_FAILED) fail_io(errno, "mapping {} bytes", bytes);
  data_ = static_cast<std::byte*>(data);
  bytes_ = bytes;
}

Segment& Segment::operator=(Segment&& from) noexcept {
  std::swap(name_, from.name_);
  std::swap(data_, from.data_);
  std::swap(bytes_, from.bytes_);
  std::swap(control_bytes_, from.control_bytes_);
  std::swap(reserved_, from.reserved_);
  std::swap(descriptor_, from.descriptor_);
  std::swap(alive_, from.alive_);
  return *this;
}

Segment::~Segment() {
  unlink();
  if (alive_) control().life.end();
  if (data_ != nullptr) munmap(data_, bytes_);
  if (descriptor_ >= 0) ::close(descriptor_);
}

Channel& Segment::channel(int to, int lane) const {
  return reinterpret_cast<Channel*>(
      data_ + sizeof(Control))[to * Transport::kLanes + lane];
}

void Segment::reserve(std::size_t bytes) {
  const std::size_t end = std::min(bytes_, control_bytes_ + rounded(bytes));
  if (end <= reserved_) return;
  const std::size_t wanted = end - reserved_;
  struct statvfs disk {};
  if (statvfs(kFolder, &disk) != 0) fail_io(errno, "{}", kFolder);
  if (disk.f_bavail * disk.f_frsize < wanted ||
      static_cast<std::size_t>(available_memory_bytes()) < wanted) {
    fail_full(wanted);
  }
  while (reserved_ < end) {
    const std::size_t part = std::min(kReserveBytes, end - reserved_);
    const int error = posix_fallocate(
        descriptor_, static_cast<off_t>(reserved_), static_cast<off_t>(part));
    if (error == EINTR) continue;
    if (error == ENOSPC || error == ENOMEM) fail_full(end - reserved_);
    if (error != 0) fail_io(error, "{} bytes of {}", part, kFolder);
    reserved_ += part;
  }
}

void Segment::unlink() noexcept {
  if (name_.empty()) return;
  shm_unlink(name_.c_str());
  name_.clear();
}

}  // namespace catena::shared_memory
