#include "runtime/base/files.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <system_error>
#include <thread>
#include <utility>

#include "runtime/base/error.h"

namespace catena {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void fail_io(const fs::path& path, const char* action) {
  const int code = errno;
  const ErrorKind kind = code == ENOENT ? ErrorKind::kData : ErrorKind::kIo;
  fail(kind, "{}: cannot {}: {}", path.string(), action, std::strerror(code));
}

struct Descriptor {
  int value = -1;
  ~Descriptor() {
    if (value >= 0) ::close(value);
  }
};

struct stat open_for_reading(const fs::path& path, Descriptor& descriptor) {
  descriptor.value = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor.value < 0) fail_io(path, "open");
  struct stat status {};
  if (::fstat(descriptor.value, &status) != 0) fail_io(path, "read");
  if (S_ISDIR(status.st_mode)) {
    fail(ErrorKind::kData, "{}: is a folder, a file was expected",
         path.string());
  }
  return status;
}

}  // namespace

std::string read_file(const fs::path& path) {
  Descriptor descriptor;
  const struct stat status = open_for_reading(path, descriptor);
  std::string content;
  content.reserve(static_cast<std::size_t>(status.st_size));
  char buffer[1 << 16];
  for (;;) {
    const ssize_t count = ::read(descriptor.value, buffer, sizeof buffer);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail_io(path, "read");
    if (count == 0) return content;
    content.append(buffer, static_cast<std::size_t>(count));
  }
}

WrittenFile write_file_atomically(const fs::path& path,
                                  std::string_view content) {
  AtomicFile file(path);
  file.write(content);
  file.commit();
  return file.written();
}

AtomicFile::AtomicFile(fs::path path) : path_(std::move(path)) {
  if (path_.has_parent_path()) {
    std::error_code code;
    fs::create_directories(path_.parent_path(), code);
    if (code) {
      fail(ErrorKind::kIo, "{}: cannot create folder: {}",
           path_.parent_path().string(), code.message());
    }
  }
  temporary_ = path_;
  temporary_ += fmt::format(".{}.tmp", ::getpid());
  descriptor_ = ::open(temporary_.c_str(),
                       O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (descriptor_ < 0) fail_io(path_, "write");
}

AtomicFile::~AtomicFile() {
  if (descriptor_ < 0) return;
  ::close(descriptor_);
  ::unlink(temporary_.c_str());
}

void AtomicFile::write(std::span<const std::byte> bytes) {
  hasher_.add(bytes);
  const std::byte* data = bytes.data();
  std::size_t left = bytes.size();
  while (left > 0) {
    const ssize_t count = ::write(descriptor_, data, left);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail_io(path_, "write");
    data += count;
    left -= static_cast<std::size_t>(count);
    written_ += count;
  }
}

void AtomicFile::write(std::string_view text) {
  write(std::as_bytes(std::span(text.data(), text.size())));
}

void AtomicFile::commit() {
  if (::fsync(descriptor_) != 0) fail_io(path_, "write to disk");
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) {
    fail_io(path_, "rename into place");
  }
  ::close(std::exchange(descriptor_, -1));
  sync_folder(path_.has_parent_path() ? path_.parent_path() : ".");
}

void sync_folder(const fs::path& folder) {
  Descriptor descriptor;
  descriptor.value = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor.value < 0 || ::fsync(descriptor.value) != 0) {
    // Some network file systems cannot sync a folder; the names stand.
    if (errno != EINVAL && errno != ENOTSUP) fail_io(folder, "sync folder");
  }
}

bool comes_to_be(const fs::path& path) {
  using Clock = std::chrono::steady_clock;
  constexpr std::chrono::seconds kLag(5);
  constexpr std::chrono::milliseconds kNap(20);
  std::error_code ignored;
  for (const auto until = Clock::now() + kLag; Clock::now() < until;) {
    if (fs::exists(path, ignored)) return true;
    std::this_thread::sleep_for(kNap);
  }
  return fs::exists(path, ignored);
}

void replace_folder(const fs::path& from, const fs::path& to) {
  if (::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(),
                  RENAME_NOREPLACE) == 0) {
    return;
  }
  if (errno == EEXIST && ::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD,
                                     to.c_str(), RENAME_EXCHANGE) == 0) {
    return;
  }
  // File systems without these flags: plain renames, with a moment between.
  if (errno != EINVAL && errno != ENOSYS) fail_io(to, "rename into place");
  fs::path aside = to;
  aside += kReplaced;
  std::error_code ignored;
  if (fs::exists(to, ignored)) fs::remove_all(aside, ignored);
  if (::rename(to.c_str(), aside.c_str()) != 0 && errno != ENOENT) {
    fail_io(to, "rename");
  }
  if (::rename(from.c_str(), to.c_str()) != 0) {
    const int code = errno;
    static_cast<void>(::rename(aside.c_str(), to.c_str()));
    errno = code;
    fail_io(to, "rename into place");
  }
  static_cast<void>(::rename(aside.c_str(), from.c_str()));
}

FileLock::FileLock(const fs::path& path) {
  descriptor_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (descriptor_ < 0) fail_io(path, "open");
  held_ = ::flock(descriptor_, LOCK_EX | LOCK_NB) == 0;
  if (!held_ && errno != EWOULDBLOCK) {
    const int code = errno;
    ::close(descriptor_);
    errno = code;
    fail_io(path, "lock");
  }
  if (!held_) return;
  // The lock counts, not what the file says: a full disk is no reason to fail.
  const std::string process = std::to_string(::getpid()) + "\n";
  const ssize_t written =
      ::ftruncate(descriptor_, 0) == 0
          ? ::pwrite(descriptor_, process.data(), process.size(), 0)
          : -1;
  static_cast<void>(written);
}

FileLock::~FileLock() { ::close(descriptor_); }

MappedFile::MappedFile(const fs::path& path) {
  Descriptor descriptor;
  const struct stat status = open_for_reading(path, descriptor);
  size_ = static_cast<std::size_t>(status.st_size);
  if (size_ == 0) return;
  void* data =
      ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, descriptor.value, 0);
  if (data == MAP_FAILED) fail_io(path, "map into memory");
  data_ = data;
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(data_, size_);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

}  // namespace catena
