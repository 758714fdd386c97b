#include "runtime/backend.h"

#include <algorithm>
#include <utility>

namespace catena {

void* Backend::allocate(std::size_t bytes) {
  void* const data = take(bytes);
  memory_.bytes += static_cast<std::int64_t>(bytes);
  memory_.peak_bytes = std::max(memory_.peak_bytes, memory_.bytes);
  ++memory_.allocations;
  return data;
}

void Backend::release(void* data, std::size_t bytes) noexcept {
  memory_.bytes -= static_cast<std::int64_t>(bytes);
  give_back(data);
}

namespace {
// Even an empty tensor has an address.
std::size_t room(const TensorView& view) {
  return std::max<std::size_t>(static_cast<std::size_t>(view.bytes()), 1);
}
}  // namespace

Tensor::Tensor(Backend& backend, DType dtype, const Shape& shape)
    : backend_(&backend) {
  view_ = TensorView(nullptr, dtype, shape);
  view_ = TensorView(backend.allocate(room(view_)), dtype, shape);
  backend.clear(view_.data(), static_cast<std::size_t>(view_.bytes()));
}

Tensor::~Tensor() {
  if (backend_ != nullptr) backend_->release(view_.data(), room(view_));
}

Tensor::Tensor(Tensor&& other) noexcept
    : backend_(std::exchange(other.backend_, nullptr)),
      view_(std::exchange(other.view_, {})) {}

Tensor& Tensor::operator=(Tensor&& other) noexcept {
  std::swap(backend_, other.backend_);
  std::swap(view_, other.view_);
  return *this;
}

}  // namespace catena
