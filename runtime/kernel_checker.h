#pragma once

#include <string_view>

#include "runtime/tensor.h"

namespace catena {

/// Checks the arguments of one kernel call, for kernels.cc. Every function
/// throws InvalidArgument: "[kernel] argument is TYPE [SHAPE], expected ...".
class KernelChecker {
 public:
  explicit KernelChecker(std::string_view kernel) : kernel_(kernel) {}

  /// A defined tensor with so many dimensions, of a type that T may have.
  void activation(std::string_view argument, const TensorView& tensor,
                  int dimensions) const {
    CATENA_CHECK(
        tensor.dimensions() == dimensions && is_floating(tensor.dtype()),
        "[{}] {} is {} {}, expected {} floating dimensions", kernel_, argument,
        name(tensor.dtype()), tensor.shape().text(), dimensions);
    rows_apart(argument, tensor);
  }

  void exactly(std::string_view argument, const TensorView& tensor, DType dtype,
               const Shape& shape) const {
    CATENA_CHECK(tensor.dtype() == dtype && tensor.shape() == shape,
                 "[{}] {} is {} {}, expected {} {}", kernel_, argument,
                 name(tensor.dtype()), tensor.shape().text(), name(dtype),
                 shape.text());
    rows_apart(argument, tensor);
  }

  /// As exactly(), or undefined.
  void optional(std::string_view argument, const TensorView& tensor,
                DType dtype, const Shape& shape) const {
    if (tensor.defined()) exactly(argument, tensor, dtype, shape);
  }

  /// As exactly(), where type and wide(type) will both do.
  void either(std::string_view argument, const TensorView& tensor, DType type,
              const Shape& shape) const {
    const bool is_wide = tensor.dtype() == wide(type);
    exactly(argument, tensor, is_wide ? wide(type) : type, shape);
  }

  /// As exactly(), where any type of the same wide() will do for a floating
  /// one.
  void converted(std::string_view argument, const TensorView& tensor,
                 DType type, const Shape& shape) const {
    const bool alike = is_floating(type) && is_floating(tensor.dtype()) &&
                       wide(type) == wide(tensor.dtype());
    exactly(argument, tensor, alike ? tensor.dtype() : type, shape);
  }

  void indices(std::string_view argument, const TensorView& tensor) const {
    CATENA_CHECK(tensor.dimensions() == 2 && tensor.dtype() == DType::kInt32,
                 "[{}] {} is {} {}, expected int32 [rows, k]", kernel_,
                 argument, name(tensor.dtype()), tensor.shape().text());
    rows_apart(argument, tensor);
  }

  /// int32, one dimension.
  void offsets(std::string_view argument, const TensorView& tensor) const {
    CATENA_CHECK(tensor.dimensions() == 1 && tensor.size(0) >= 1 &&
                     tensor.dtype() == DType::kInt32,
                 "[{}] {} is {} {}, expected int32 [groups + 1]", kernel_,
                 argument, name(tensor.dtype()), tensor.shape().text());
  }

  void contiguous(std::string_view argument, const TensorView& tensor) const {
    CATENA_CHECK(tensor.contiguous(),
                 "[{}] {} {} has padded rows, expected contiguous memory",
                 kernel_, argument, tensor.shape().text());
  }

  /// Rows of a matrix must not overlap, whether it is read or written.
  void rows_apart(std::string_view argument, const TensorView& tensor) const {
    if (tensor.dimensions() != 2 || tensor.size(0) <= 1) return;
    CATENA_CHECK(tensor.stride(0) >= tensor.size(1),
                 "[{}] {} {} has rows {} apart, expected at least {}", kernel_,
                 argument, tensor.shape().text(), tensor.stride(0),
                 tensor.size(1));
  }

  void dimensions(std::string_view argument, const TensorView& tensor, int low,
                  int high) const {
    CATENA_CHECK(tensor.dimensions() >= low && tensor.dimensions() <= high,
                 "[{}] {} is {}, expected {} to {} dimensions", kernel_,
                 argument, tensor.shape().text(), low, high);
  }

  /// No element of a tensor that is written may be written twice.
  void distinct(std::string_view argument, const TensorView& tensor) const {
    if (tensor.empty()) return;
    for (int d = 0; d < tensor.dimensions(); ++d) {
      CATENA_CHECK(tensor.stride(d) != 0 || tensor.size(d) <= 1,
                   "[{}] {} {} repeats dimension {}, but is written", kernel_,
                   argument, tensor.shape().text(), d);
    }
  }

  void holds(bool condition, std::string_view expected) const {
    CATENA_CHECK(condition, "[{}] expected {}", kernel_, expected);
  }

 private:
  std::string_view kernel_;
};

}  // namespace catena
