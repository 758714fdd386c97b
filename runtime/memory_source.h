#pragma once

#include <cstddef>

namespace catena {

/// Where memory comes from.
/// Thread rule: one thread at a time.
class MemorySource {
 public:
  virtual ~MemorySource() = default;
  /// 64-byte aligned, not cleared. Throws: DoesNotFit.
  [[nodiscard]] virtual void* allocate(std::size_t bytes) = 0;
  /// `bytes` as allocate() was asked for.
  virtual void release(void* data, std::size_t bytes) noexcept = 0;
};

}  // namespace catena
