#include "launcher/preflight/machine_probe.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <limits>
#include <optional>
#include <span>
#include <system_error>

#include "launcher/descriptor.h"
#include "runtime/base/hash.h"
#include "runtime/base/machine.h"

namespace catena::launcher {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kPieceBytes = std::size_t{64} << 10U;
constexpr std::int64_t kSmallBytes = std::int64_t{4} << 20U;
constexpr std::int64_t kPieces = 16;
/// Of all files but the program.
constexpr std::int64_t kMostBytes = std::int64_t{64} << 20U;
constexpr std::int64_t kWhole = std::numeric_limits<std::int64_t>::max();

/// Bytes from `offset` to `end`, or to the file's own. Returns whether they
/// could be read.
bool add_bytes(int file, std::int64_t offset, std::int64_t end,
               Hasher64& hasher) {
  std::vector<std::byte> piece(kPieceBytes);
  while (offset < end) {
    const auto wanted = std::min<std::int64_t>(
        end - offset, static_cast<std::int64_t>(kPieceBytes));
    const ssize_t count =
        ::pread(file, piece.data(), static_cast<std::size_t>(wanted), offset);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return false;
    if (count == 0) break;
    hasher.add({piece.data(), static_cast<std::size_t>(count)});
    offset += count;
  }
  return true;
}

/// What may be read of a file, or of all files of a folder.
struct Allowance {
  std::int64_t whole;  ///< larger files are read in pieces
  std::int64_t left;
};

/// Pieces of a large file, evenly spread.
bool add_pieces(int file, std::int64_t size, std::int64_t& left,
                Hasher64& hasher) {
  const auto most = static_cast<std::int64_t>(kPieceBytes);
  const std::int64_t pieces = std::clamp<std::int64_t>(left / most, 2, kPieces);
  const std::int64_t piece = std::min(most, left / pieces);
  left -= std::max(most, pieces * piece);
  for (std::int64_t i = 0; i < pieces; ++i) {
    const std::int64_t at = (size - piece) * i / (pieces - 1);
    if (!add_bytes(file, at, at + piece, hasher)) return false;
  }
  return true;
}

bool add_file(const std::string& path, Allowance& may, Hasher64& hasher) {
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat status {};
  if (file.get() < 0 || ::fstat(file.get(), &status) != 0) return false;
  const std::int64_t size = status.st_size;
  hasher.add(std::as_bytes(std::span(&size, 1)));
  if (size > std::min(may.whole, may.left)) {
    return add_pieces(file.get(), size, may.left, hasher);
  }
  may.left -= std::max(size, static_cast<std::int64_t>(kPieceBytes));
  // Some files of the kernel have no size.
  return add_bytes(file.get(), 0, kWhole, hasher);
}

/// In their order, whatever that of the disk; nothing where they cannot all be
/// found. What only others may read, such as lost+found, holds none of them.
std::optional<std::vector<std::string>> files_below(const std::string& folder) {
  std::vector<std::string> files;
  std::error_code error;
  for (fs::recursive_directory_iterator
           at(folder, fs::directory_options::skip_permission_denied, error),
       end;
       !error && at != end; at.increment(error)) {
    std::error_code no_file;
    if (at->is_regular_file(no_file)) files.push_back(at->path().string());
  }
  if (error) return std::nullopt;
  std::sort(files.begin(), files.end());
  return files;
}

/// Whoever has many files, or large ones, is not to wait for them all.
bool add_folder(const std::string& folder, Allowance& may, Hasher64& hasher) {
  const auto files = files_below(folder);
  if (!files) return false;
  for (const std::string& file : *files) {
    hasher.add(std::as_bytes(std::span(file)));
    if (may.left > 0 && !add_file(file, may, hasher)) return false;
  }
  return true;
}

/// 0: it cannot be read.
std::uint64_t hash_of(const std::string& path, Allowance may) {
  Hasher64 hasher;
  std::error_code error;
  const bool good = fs::is_directory(path, error)
                        ? add_folder(path, may, hasher)
                        : add_file(path, may, hasher);
  return good ? hasher.value() : 0;
}

std::string cannot(const char* what, const std::string& path) {
  return fmt::format("cannot {} {}: {}", what, path, std::strerror(errno));
}

std::string write_to(const std::string& path) {
  const Descriptor file(
      ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  if (file.get() < 0) return cannot("create", path);
  const std::string bytes(kWrittenBytes, 'x');
  for (std::size_t at = 0; at < bytes.size();) {
    const ssize_t count =
        ::write(file.get(), bytes.data() + at, bytes.size() - at);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return cannot("write", path);
    at += static_cast<std::size_t>(count);
  }
  return ::fsync(file.get()) == 0 ? "" : cannot("sync", path);
}

void look_at_disk(const std::string& run, MachineFacts& facts) {
  struct statvfs disk {};
  if (::statvfs(run.c_str(), &disk) != 0) {
    facts.disk_error = cannot("find", run);
    return;
  }
  facts.free_disk_bytes = static_cast<std::int64_t>(disk.f_bavail) *
                          static_cast<std::int64_t>(disk.f_frsize);
  // Machines write at once, and agents of one machine do.
  const std::string path = fmt::format("{}/.preflight-{:x}-{}", run, host_id(),
                                       static_cast<int>(::getpid()));
  const auto begin = std::chrono::steady_clock::now();
  facts.disk_error = write_to(path);
  const std::chrono::duration<double> taken =
      std::chrono::steady_clock::now() - begin;
  facts.write_seconds = taken.count();
  ::unlink(path.c_str());
}

}  // namespace

MachineFacts probe_machine(const ProbeMachine& probe) {
  MachineFacts facts{.cores = available_cores(),
                     .memory_bytes = memory_limit_bytes(),
                     .free_memory_bytes = available_memory_bytes()};
  look_at_disk(probe.run, facts);
  facts.program_hash = hash_of(probe.program, {kWhole, kWhole});
  // As much of each, so that none has another hash for what others hold.
  const std::size_t count = files_compared(probe);
  for (std::size_t i = 0; i < count; ++i) {
    facts.file_hashes.push_back(
        hash_of(probe.files[i],
                {.whole = kSmallBytes,
                 .left = kMostBytes / static_cast<std::int64_t>(count)}));
  }
  return facts;
}

}  // namespace catena::launcher
