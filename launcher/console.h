#pragma once

#include <cstdint>
#include <filesystem>

namespace catena::launcher {

/// Shows on standard error what a rank's log gains, in whole lines. The log is
/// the rank's own: a launcher that is held up, or gone, holds up no rank.
class Console {
 public:
  /// What is in the file already is not shown.
  explicit Console(std::filesystem::path log);
  /// Shows what has come since the last time.
  void copy();

 private:
  std::filesystem::path log_;
  std::int64_t shown_ = 0;
};

}  // namespace catena::launcher
