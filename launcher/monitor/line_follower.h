#pragma once

#include <cstdint>
#include <ctime>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>

namespace catena::launcher {

/// Reads what a file of lines gains while others append to it. A line counts
/// once its newline is there. If the file is replaced or shortened (a run that
/// goes on from a checkpoint drops the steps after it), it is read anew.
/// Lines longer than kMostLine bytes are left out.
/// Memory: one piece and the line that is not whole yet.
/// Thread rule: one thread.
class LineFollower {
 public:
  static constexpr std::size_t kMostLine = 4 << 20;

  explicit LineFollower(std::filesystem::path path);
  ~LineFollower();
  LineFollower(LineFollower&& other) noexcept;
  LineFollower& operator=(LineFollower&& other) = delete;

  struct Sinks {
    std::function<void()> anew;  ///< forget all lines: it begins again
    std::function<void(std::string_view)> line;  ///< without its newline
  };
  /// Reads a piece of at most 256 KiB. A file that is not there has no lines.
  /// Returns whether there is more to read now.
  bool read(const Sinks& sinks);

  /// When the file was last written to, seconds of the epoch; 0: not there.
  [[nodiscard]] double modified() const { return modified_; }
  /// As of the last read(); before the first one, some.
  [[nodiscard]] std::int64_t size() const { return size_; }
  [[nodiscard]] std::int64_t read_so_far() const { return offset_; }

 private:
  bool reopen(const Sinks& sinks);
  void take(std::string_view piece, const Sinks& sinks);

  std::filesystem::path path_;
  int descriptor_ = -1;  ///< kept open, so that its inode stays its own
  std::int64_t offset_ = 0, size_ = 1;
  double modified_ = 0;
  std::string partial_;
  bool too_long_ = false;  ///< the rest of this line is passed over
  std::string piece_;
};

}  // namespace catena::launcher
