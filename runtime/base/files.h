#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

#include "runtime/base/hash.h"

namespace catena {

/// Whole content of a file.
/// Throws: Error(kData) if it does not exist, Error(kIo) if it cannot be read.
[[nodiscard]] std::string read_file(const std::filesystem::path& path);

/// What a file that was just written holds.
struct WrittenFile {
  std::int64_t bytes = 0;
  std::uint64_t hash = 0;  ///< hash64() of the whole
};

/// Replaces `path` by `content` so that a reader, and a crash at any moment,
/// sees either the old file whole or the new one whole: temporary name in the
/// same folder, fsync, rename, fsync of the folder. Creates missing folders.
/// Throws: Error(kIo) with the path and the system's reason; the temporary
/// file is gone and the old file untouched.
WrittenFile write_file_atomically(const std::filesystem::path& path,
                                  std::string_view content);

/// The same in pieces, for files larger than memory should hold twice.
///   AtomicFile file("model.safetensors");
///   file.write(header); file.write(data); file.commit();
/// Without commit() the destructor removes the temporary file.
class AtomicFile {
 public:
  explicit AtomicFile(std::filesystem::path path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(std::span<const std::byte> bytes);
  void write(std::string_view text);
  void commit();
  /// Bytes so far, and their hash64().
  [[nodiscard]] WrittenFile written() const {
    return {written_, hasher_.value()};
  }

 private:
  std::filesystem::path path_, temporary_;
  int descriptor_ = -1;
  std::int64_t written_ = 0;
  Hasher64 hasher_;
};

/// Makes the names within a folder last: fsync of the folder itself. File
/// systems that cannot do it are taken as they are.
/// Throws: Error(kIo).
void sync_folder(const std::filesystem::path& folder);

/// Whether it is there, or comes within five seconds: so much later a network
/// file system may show what another machine wrote.
[[nodiscard]] bool comes_to_be(const std::filesystem::path& path);

/// Behind the name of a folder that another one is taking the place of.
inline constexpr std::string_view kReplaced = ".replaced";

/// Puts folder `from` in the place of `to`, which may exist: a crash at any
/// moment leaves at `to` the old one whole or the new one whole. The old one,
/// if there was one, is then at `from`. File systems that cannot exchange names
/// (NFS) have a moment in which neither is at `to`, but the old one at `to`
/// with kReplaced behind its name; so a crash in it leaves it. Throws:
/// Error(kIo); the old one is at `to` again.
void replace_folder(const std::filesystem::path& from,
                    const std::filesystem::path& to);

/// An exclusive claim to a file's name among processes, held until the object
/// or the process ends, however it ends. The file holds the number of the
/// process that held it last, in decimal on one line, if the disk takes it.
class FileLock {
 public:
  /// Throws: Error(kIo) if it cannot be made; held() tells whether another
  /// process has it.
  explicit FileLock(const std::filesystem::path& path);
  ~FileLock();
  FileLock(const FileLock&) = delete;
  FileLock& operator=(const FileLock&) = delete;
  [[nodiscard]] bool held() const { return held_; }

 private:
  int descriptor_ = -1;
  bool held_ = false;
};

/// A file mapped read-only for the lifetime of the object. Movable.
/// Thread rule: any number of readers. An empty file gives an empty span.
class MappedFile {
 public:
  MappedFile() = default;
  /// Throws: as read_file.
  explicit MappedFile(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;

  [[nodiscard]] std::span<const std::byte> bytes() const {
    return {static_cast<const std::byte*>(data_), size_};
  }
  [[nodiscard]] std::string_view text() const {
    return {static_cast<const char*>(data_), size_};
  }

 private:
  void* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace catena
