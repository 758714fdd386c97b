#pragma once

#include <chrono>
#include <cstddef>
#include <memory>
#include <string_view>

namespace catena {

/// Writes to a descriptor by a thread of its own, so that nobody waits for who
/// reads there, or does not: a terminal after Ctrl-S, `less`, an ssh without a
/// network. Thread rule: any thread.
class BackgroundWriter {
 public:
  static constexpr std::size_t kMostBytes = 1 << 20;
  static constexpr std::chrono::seconds kPatience{2};

  /// `descriptor`: stays open as long as the program.
  explicit BackgroundWriter(int descriptor);
  /// Waits until all is written, for kPatience at most: then the rest is left
  /// to the thread, and that behind.
  ~BackgroundWriter();
  BackgroundWriter(const BackgroundWriter&) = delete;
  BackgroundWriter& operator=(const BackgroundWriter&) = delete;

  /// Writes it after all before. Returns false, and does nothing, where more
  /// than kMostBytes would wait then.
  bool write(std::string_view text);

 private:
  struct Shared;
  std::shared_ptr<Shared> shared_;  ///< with the thread
};

}  // namespace catena
