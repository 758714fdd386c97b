#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

namespace catena::data {

/// The bytes of a file from front to back, decompressed if it is zstd (told by
/// its first bytes, not its name).
/// Thread rule: one thread.
class ByteStream {
 public:
  /// Throws: Error(kData) if there is no such file or it is a folder,
  /// Error(kIo) if it cannot be opened.
  explicit ByteStream(std::filesystem::path path);
  ~ByteStream();
  ByteStream(ByteStream&&) noexcept;

  /// Up to `size` bytes; 0 only at the end.
  /// Throws: Error(kIo); Error(kData) for damaged or truncated zstd.
  std::size_t read(char* out, std::size_t size);

  /// Bytes taken from the file so far (compressed ones, if it is).
  [[nodiscard]] std::int64_t consumed_bytes() const;

 private:
  struct Zstd;
  std::size_t read_file(char* out, std::size_t size);
  std::size_t decompress(char* out, std::size_t size);

  std::filesystem::path path_;
  int descriptor_ = -1;
  std::int64_t consumed_ = 0;
  std::string head_;  // bytes read to look at the magic number, not yet given
  std::unique_ptr<Zstd> zstd_;
};

}  // namespace catena::data
