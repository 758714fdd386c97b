#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <string>

#include "runtime/base/error.h"
#include "runtime/dtype.h"

namespace catena {

inline constexpr int kMaxDimensions = 4;

/// Lengths, outermost first. At most four.
struct Shape {
  std::array<std::int64_t, kMaxDimensions> sizes{};
  int dimensions = 0;

  Shape() = default;
  Shape(std::initializer_list<std::int64_t> list);
  [[nodiscard]] std::int64_t operator[](int dimension) const {
    return sizes[static_cast<std::size_t>(dimension)];
  }
  [[nodiscard]] std::int64_t elements() const;
  [[nodiscard]] std::string text() const;  ///< "[4, 16]"
  bool operator==(const Shape&) const = default;
};

/// Borrowed memory with a shape: pointer, type, lengths and strides in
/// elements. The innermost stride is 1; an outer stride of 0 repeats. On a
/// device, and on the meta backend, the pointer must not be followed by the
/// host. Cheap to copy; owns nothing.
class TensorView {
 public:
  TensorView() = default;
  /// Contiguous.
  TensorView(void* data, DType dtype, const Shape& shape);

  [[nodiscard]] bool empty() const { return elements() == 0; }
  [[nodiscard]] bool defined() const { return shape_.dimensions > 0; }
  [[nodiscard]] DType dtype() const { return dtype_; }
  [[nodiscard]] const Shape& shape() const { return shape_; }
  [[nodiscard]] int dimensions() const { return shape_.dimensions; }
  [[nodiscard]] std::int64_t size(int dimension) const {
    return shape_[dimension];
  }
  [[nodiscard]] std::int64_t stride(int dimension) const {
    return strides_[static_cast<std::size_t>(dimension)];
  }
  [[nodiscard]] std::int64_t elements() const {
    return defined() ? shape_.elements() : 0;
  }
  [[nodiscard]] std::int64_t bytes() const {
    return elements() * size_bytes(dtype_);
  }
  [[nodiscard]] bool contiguous() const;

  [[nodiscard]] void* data() const { return data_; }
  /// Throws: InvalidArgument if T is not the element type.
  template <class T>
  [[nodiscard]] T* as() const {
    CATENA_CHECK(DTypeOf<T>::value == dtype_, "[tensor] {} read as {}",
                 name(dtype_), name(DTypeOf<T>::value));
    return static_cast<T*>(data_);
  }

  /// `count` entries of `dimension` from `begin`.
  [[nodiscard]] TensorView slice(int dimension, std::int64_t begin,
                                 std::int64_t count) const;
  /// Entry `index` of the outermost dimension, which disappears.
  [[nodiscard]] TensorView at(std::int64_t index) const;
  /// Same elements, other shape. Throws unless contiguous.
  [[nodiscard]] TensorView reshape(const Shape& shape) const;
  /// Last dimension of length a*b becomes [a, b]; keeps outer strides.
  [[nodiscard]] TensorView split_last(std::int64_t outer,
                                      std::int64_t inner) const;
  /// [rows, columns] becomes [rows, count, columns], every copy the same.
  [[nodiscard]] TensorView repeat_middle(std::int64_t count) const;

 private:
  void* data_ = nullptr;
  DType dtype_ = DType::kFloat32;
  Shape shape_;
  std::array<std::int64_t, kMaxDimensions> strides_{};
};

}  // namespace catena
