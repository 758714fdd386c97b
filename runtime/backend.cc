#include "runtime/backend.h"

#include <algorithm>
#include <utility>

namespace catena {

Tensor::Tensor(Backend& backend, DType dtype, const Shape& shape)
    : backend_(&backend) {
  const auto bytes =
      static_cast<std::size_t>(shape.elements() * size_bytes(dtype));
  view_ = TensorView(backend.allocate(std::max<std::size_t>(bytes, 1)), dtype,
                     shape);
  backend.clear(view_.data(), bytes);
}

Tensor::~Tensor() {
  if (backend_ != nullptr) backend_->release(view_.data());
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
