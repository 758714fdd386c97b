#include "launcher/monitor/line_follower.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <utility>

namespace catena::launcher {
namespace {

constexpr std::size_t kPiece = 256 << 10;
constexpr double kNanosecond = 1e-9;

}  // namespace

LineFollower::LineFollower(std::filesystem::path path)
    : path_(std::move(path)) {}

LineFollower::~LineFollower() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

LineFollower::LineFollower(LineFollower&& other) noexcept
    : path_(std::move(other.path_)),
      descriptor_(std::exchange(other.descriptor_, -1)),
      offset_(other.offset_),
      size_(other.size_),
      modified_(other.modified_),
      partial_(std::move(other.partial_)),
      too_long_(other.too_long_),
      piece_(std::move(other.piece_)) {}

// Makes descriptor_ the file that has the name now; false: there is none.
bool LineFollower::reopen(const Sinks& sinks) {
  struct stat named {};
  if (::stat(path_.c_str(), &named) != 0 || !S_ISREG(named.st_mode)) {
    modified_ = 0;
    size_ = offset_;
    return false;
  }
  size_ = named.st_size;
  modified_ = static_cast<double>(named.st_mtim.tv_sec) +
              static_cast<double>(named.st_mtim.tv_nsec) * kNanosecond;
  struct stat held {};
  const bool same = descriptor_ >= 0 && ::fstat(descriptor_, &held) == 0 &&
                    held.st_ino == named.st_ino &&
                    held.st_dev == named.st_dev && size_ >= offset_;
  if (same) return true;
  if (descriptor_ >= 0) ::close(descriptor_);
  descriptor_ = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  offset_ = 0;
  partial_.clear();
  too_long_ = false;
  sinks.anew();
  return descriptor_ >= 0;
}

void LineFollower::take(std::string_view piece, const Sinks& sinks) {
  for (auto end = piece.find('\n'); end != std::string_view::npos;
       end = piece.find('\n')) {
    if (!std::exchange(too_long_, false)) {
      if (partial_.empty()) {
        sinks.line(piece.substr(0, end));
      } else {
        partial_ += piece.substr(0, end);
        sinks.line(partial_);
      }
    }
    partial_.clear();
    piece.remove_prefix(end + 1);
  }
  if (too_long_) return;
  partial_ += piece;
  if (partial_.size() <= kMostLine) return;
  too_long_ = true;
  partial_ = {};
}

bool LineFollower::read(const Sinks& sinks) {
  if (!reopen(sinks)) return false;
  piece_.resize(kPiece);
  const ssize_t count =
      ::pread(descriptor_, piece_.data(), piece_.size(), offset_);
  if (count <= 0) return false;
  offset_ += count;
  take({piece_.data(), static_cast<std::size_t>(count)}, sinks);
  return offset_ < size_;
}

}  // namespace catena::launcher
