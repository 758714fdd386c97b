#pragma once

#include <cstdint>
#include <filesystem>

namespace catena::launcher {

/// Shows on standard error (log::show) what a rank's log gains, in whole lines;
/// one that is longer than a piece of 64 KiB, in pieces. The log is the rank's
/// own: a launcher that is held up, or gone, holds up no rank.
class Console {
 public:
  /// What is in the file already is not shown.
  explicit Console(std::filesystem::path log);
  /// Shows a piece of what has come since the last time, unless too much waits
  /// to be seen already. Returns whether it did.
  bool copy();

 private:
  std::filesystem::path log_;
  std::int64_t shown_ = 0;
};

}  // namespace catena::launcher
