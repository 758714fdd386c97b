#include "training/data/byte_stream.h"

#include <fcntl.h>
#include <unistd.h>
#include <zstd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "runtime/base/error.h"

namespace catena::data {

struct ByteStream::Zstd {
  ZSTD_DStream* stream = ZSTD_createDStream();
  std::string buffer = std::string(ZSTD_DStreamInSize(), '\0');
  ZSTD_inBuffer input{buffer.data(), 0, 0};
  std::size_t expected = 0;  // 0: between frames

  Zstd() = default;
  ~Zstd() { ZSTD_freeDStream(stream); }
  Zstd(const Zstd&) = delete;
  Zstd& operator=(const Zstd&) = delete;
};

ByteStream::ByteStream(std::filesystem::path path) : path_(std::move(path)) {
  if (std::filesystem::is_directory(path_)) {
    fail(ErrorKind::kData, "{}: is a folder; name the files in it",
         path_.string());
  }
  descriptor_ = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor_ < 0) {
    fail(errno == ENOENT ? ErrorKind::kData : ErrorKind::kIo, "{}: {}",
         path_.string(), std::strerror(errno));
  }
  constexpr std::string_view kMagic = "\x28\xB5\x2F\xFD";
  head_.resize(kMagic.size());
  head_.resize(read_file(head_.data(), head_.size()));
  if (head_ == kMagic) zstd_ = std::make_unique<Zstd>();
}

ByteStream::~ByteStream() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

ByteStream::ByteStream(ByteStream&& other) noexcept
    : path_(std::move(other.path_)),
      descriptor_(std::exchange(other.descriptor_, -1)),
      consumed_(other.consumed_),
      head_(std::move(other.head_)),
      zstd_(std::move(other.zstd_)) {}

std::size_t ByteStream::read_file(char* out, std::size_t size) {
  for (;;) {
    const ssize_t count = ::read(descriptor_, out, size);
    if (count >= 0) {
      consumed_ += count;
      return static_cast<std::size_t>(count);
    }
    if (errno != EINTR) {
      fail(ErrorKind::kIo, "{}: cannot be read: {}", path_.string(),
           std::strerror(errno));
    }
  }
}

std::size_t ByteStream::read(char* out, std::size_t size) {
  if (zstd_) return decompress(out, size);
  if (head_.empty()) return read_file(out, size);
  const std::size_t count = std::min(size, head_.size());
  std::memcpy(out, head_.data(), count);
  head_.erase(0, count);
  return count;
}

std::size_t ByteStream::decompress(char* out, std::size_t size) {
  ZSTD_outBuffer output{out, size, 0};
  while (output.pos == 0) {
    if (zstd_->input.pos == zstd_->input.size) {
      std::size_t count = head_.size();
      std::memcpy(zstd_->buffer.data(), head_.data(), count);
      head_.clear();
      if (count == 0) {
        count = read_file(zstd_->buffer.data(), zstd_->buffer.size());
      }
      if (count == 0 && zstd_->expected != 0) {
        fail(ErrorKind::kData,
             "{}: the zstd data end early; the file is truncated, copy it "
             "again",
             path_.string());
      }
      if (count == 0) return 0;
      zstd_->input = {zstd_->buffer.data(), count, 0};
    }
    zstd_->expected =
        ZSTD_decompressStream(zstd_->stream, &output, &zstd_->input);
    if (ZSTD_isError(zstd_->expected)) {
      fail(ErrorKind::kData, "{}: damaged zstd data near byte {}: {}",
           path_.string(), consumed_, ZSTD_getErrorName(zstd_->expected));
    }
  }
  return output.pos;
}

std::int64_t ByteStream::consumed_bytes() const { return consumed_; }

}  // namespace catena::data
