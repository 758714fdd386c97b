#pragma once

#include <chrono>
#include <string>
#include <string_view>

namespace catena {

/// Where ranks that know nothing of each other yet leave word: key -> bytes.
/// Each key is set once, or by several of whom any may be heard.
class Store {
 public:
  virtual ~Store() = default;
  Store() = default;
  Store(const Store&) = delete;
  Store& operator=(const Store&) = delete;

  /// Throws: Communication, Io.
  virtual void set(std::string_view key, std::string_view value) = 0;
  /// Waits until somebody has set the key, for at most `deadline`.
  /// Throws: Timeout, naming the key; Communication, Io.
  [[nodiscard]] virtual std::string get(
      std::string_view key, std::chrono::duration<double> deadline) = 0;
};

}  // namespace catena
