#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

namespace catena {

/// Whole content of a file.
/// Throws: Error(kData) if it does not exist, Error(kIo) if it cannot be read.
[[nodiscard]] std::string read_file(const std::filesystem::path& path);

/// Replaces `path` by `content` so that a reader, and a crash at any moment,
/// sees either the old file whole or the new one whole: temporary name in the
/// same folder, fsync, rename, fsync of the folder. Creates missing folders.
/// Throws: Error(kIo) with the path and the system's reason; the temporary
/// file is gone and the old file untouched.
void write_file_atomically(const std::filesystem::path& path,
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
  [[nodiscard]] std::int64_t written_bytes() const { return written_; }

 private:
  std::filesystem::path path_, temporary_;
  int descriptor_ = -1;
  std::int64_t written_ = 0;
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
