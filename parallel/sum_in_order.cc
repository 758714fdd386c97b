#include "parallel/sum_in_order.h"

#include <algorithm>
#include <array>

#include "runtime/base/error.h"

namespace catena {
namespace {

constexpr std::int64_t kBlock = 1024;

template <class T>
void sum_as(std::span<const std::byte* const> sources, T* to,
            std::int64_t count) {
  std::array<T, kBlock> sum;
  for (std::int64_t begin = 0; begin < count; begin += kBlock) {
    const std::int64_t length = std::min(kBlock, count - begin);
    for (std::size_t s = 0; s < sources.size(); ++s) {
      const T* from = reinterpret_cast<const T*>(sources[s]) + begin;
      for (std::int64_t i = 0; i < length; ++i) {
        sum[static_cast<std::size_t>(i)] =
            s == 0 ? from[i] : sum[static_cast<std::size_t>(i)] + from[i];
      }
    }
    std::copy_n(sum.begin(), length, to + begin);
  }
}

}  // namespace

void sum_in_order(DType dtype, std::span<const std::byte* const> sources,
                  void* to, std::int64_t count) {
  switch (dtype) {
    case DType::kFloat32:
      return sum_as(sources, static_cast<float*>(to), count);
    case DType::kFloat64:
      return sum_as(sources, static_cast<double*>(to), count);
    case DType::kInt64:
      return sum_as(sources, static_cast<std::int64_t*>(to), count);
    case DType::kInt32:
      return sum_as(sources, static_cast<std::int32_t*>(to), count);
    case DType::kBFloat16:
      break;
  }
  fail(ErrorKind::kInvalidArgument, "[sum_in_order] no sums of {}",
       name(dtype));
}

}  // namespace catena
