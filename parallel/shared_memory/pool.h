#pragma once

#include <cstddef>
#include <map>
#include <optional>

namespace catena::shared_memory {

/// Who has which part of a range of `capacity` bytes. Holds no memory itself.
/// Takes the first free place that is long enough, so that little of the
/// range is ever used.
/// Thread rule: one thread.
class Pool {
 public:
  static constexpr std::size_t kAlignment = 64;

  explicit Pool(std::size_t capacity) : capacity_(capacity) {}

  /// Where `bytes` can be; nothing if they cannot.
  [[nodiscard]] std::optional<std::size_t> take(std::size_t bytes);
  /// What take(bytes) gave.
  void give_back(std::size_t begin, std::size_t bytes);

  /// Whatever was taken lies before this.
  [[nodiscard]] std::size_t end() const { return end_; }
  [[nodiscard]] std::size_t taken() const { return taken_; }

 private:
  std::size_t capacity_, end_ = 0, taken_ = 0;
  std::map<std::size_t, std::size_t> free_;  ///< begin -> bytes; none touch
};

}  // namespace catena::shared_memory
