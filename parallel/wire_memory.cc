#include "parallel/wire_memory.h"

#include "runtime/base/error.h"
#include "runtime/base/log.h"

namespace catena {

void* WireMemory::allocate(std::size_t bytes) {
  if (backend_->kind() == DeviceKind::kCpu) {
    try {
      return transport_->allocate(bytes);
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::kDoesNotFit) throw;
      if (!said_) {
        log::warning("messages go through a copy: {}", error.what());
        said_ = true;
      }
    }
  }
  void* const data = backend_->allocate(bytes);
  of_backend_.insert(data);
  return data;
}

void WireMemory::release(void* data, std::size_t bytes) noexcept {
  if (of_backend_.erase(data) > 0) {
    backend_->release(data, bytes);
  } else {
    transport_->release(data, bytes);
  }
}

}  // namespace catena
