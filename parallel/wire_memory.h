#pragma once

#include <unordered_set>

#include "parallel/transport.h"
#include "runtime/backend.h"

namespace catena {

/// Memory for what is sent: the transport's own, from which it goes the
/// shortest way, and where that is used up, the backend's, which is said once.
/// Borrows both.
class WireMemory final : public MemorySource {
 public:
  WireMemory(Transport& transport, Backend& backend)
      : transport_(&transport), backend_(&backend) {}
  [[nodiscard]] void* allocate(std::size_t bytes) override;
  void release(void* data, std::size_t bytes) noexcept override;

 private:
  Transport* transport_;
  Backend* backend_;
  std::unordered_set<void*> of_backend_;
  bool said_ = false;
};

}  // namespace catena
