#include "runtime/tensor.h"

namespace catena {

Shape::Shape(std::initializer_list<std::int64_t> list) {
  CATENA_CHECK(list.size() <= kMaxDimensions, "[shape] {} dimensions",
               list.size());
  for (const std::int64_t size : list) {
    CATENA_CHECK(size >= 0, "[shape] length {}", size);
    sizes[static_cast<std::size_t>(dimensions++)] = size;
  }
}

std::int64_t Shape::elements() const {
  std::int64_t product = 1;
  for (int d = 0; d < dimensions; ++d) product *= (*this)[d];
  return product;
}

std::string Shape::text() const {
  std::string result = "[";
  for (int d = 0; d < dimensions; ++d) {
    result += fmt::format("{}{}", d == 0 ? "" : ", ", (*this)[d]);
  }
  return result + "]";
}

TensorView::TensorView(void* data, DType dtype, const Shape& shape)
    : data_(data), dtype_(dtype), shape_(shape) {
  std::int64_t stride = 1;
  for (int d = shape.dimensions - 1; d >= 0; --d) {
    strides_[static_cast<std::size_t>(d)] = stride;
    stride *= shape[d];
  }
}

bool TensorView::contiguous() const {
  std::int64_t expected = 1;
  for (int d = dimensions() - 1; d >= 0; --d) {
    if (size(d) != 1 && stride(d) != expected) return false;
    expected *= size(d);
  }
  return true;
}

TensorView TensorView::slice(int dimension, std::int64_t begin,
                             std::int64_t count) const {
  CATENA_CHECK(dimension < dimensions() && begin >= 0 && count >= 0 &&
                   begin + count <= size(dimension),
               "[tensor] slice {}+{} of dimension {} of {}", begin, count,
               dimension, shape_.text());
  TensorView result = *this;
  result.shape_.sizes[static_cast<std::size_t>(dimension)] = count;
  result.data_ = static_cast<char*>(data_) +
                 begin * stride(dimension) * size_bytes(dtype_);
  return result;
}

TensorView TensorView::at(std::int64_t index) const {
  const TensorView entry = slice(0, index, 1);
  TensorView result = entry;
  result.shape_.dimensions = dimensions() - 1;
  for (int d = 0; d + 1 < dimensions(); ++d) {
    const auto to = static_cast<std::size_t>(d);
    result.shape_.sizes[to] = size(d + 1);
    result.strides_[to] = stride(d + 1);
  }
  // Shapes are compared whole, so what lies behind the last dimension is 0.
  const auto end = static_cast<std::size_t>(dimensions() - 1);
  result.shape_.sizes[end] = 0;
  result.strides_[end] = 0;
  return result;
}

TensorView TensorView::reshape(const Shape& shape) const {
  CATENA_CHECK(contiguous() && shape.elements() == shape_.elements(),
               "[tensor] {} cannot be seen as {}", shape_.text(), shape.text());
  return {data_, dtype_, shape};
}

TensorView TensorView::split_last(std::int64_t outer,
                                  std::int64_t inner) const {
  const int last = dimensions() - 1;
  CATENA_CHECK(dimensions() < kMaxDimensions && size(last) == outer * inner,
               "[tensor] last of {} as {} x {}", shape_.text(), outer, inner);
  TensorView result = *this;
  result.shape_.dimensions = dimensions() + 1;
  result.shape_.sizes[static_cast<std::size_t>(last)] = outer;
  result.shape_.sizes[static_cast<std::size_t>(last) + 1] = inner;
  result.strides_[static_cast<std::size_t>(last)] = inner;
  result.strides_[static_cast<std::size_t>(last) + 1] = 1;
  return result;
}

TensorView TensorView::repeat_middle(std::int64_t count) const {
  CATENA_CHECK(dimensions() == 2, "[tensor] repeat of {}", shape_.text());
  TensorView result = *this;
  result.shape_ = Shape{size(0), count, size(1)};
  result.strides_ = {stride(0), 0, 1, 0};
  return result;
}

}  // namespace catena
