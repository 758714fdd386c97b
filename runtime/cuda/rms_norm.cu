// RmsNorm: a warp takes a row, eight rows a block of 256 threads; the lanes
// stride over the columns and sum through a butterfly of shuffles. No shared
// memory.
//
// RmsNormGradient: a block of 256 threads takes a fixed range of rows, one
// after the other; a thread takes the columns c with c % 256 = its number, so
// that its part of d_weight needs no atomics. A second kernel adds the parts
// in order, a thread a column. Shared memory: 8 sums of the wide type.
//
// Alignment: that of one element.

#include <cuda_bf16.h>

#include "runtime/cuda/rms_norm.h"

namespace catena::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarp = 32;
constexpr int kWarps = kThreads / kWarp;
constexpr std::int64_t kMostParts = 256;

template <class T>
struct WideOf {
  using type = float;
};
template <>
struct WideOf<double> {
  using type = double;
};
template <class T>
using Wide = typename WideOf<T>::type;

template <class T>
__device__ Wide<T> widen(T value) {
  return static_cast<Wide<T>>(value);
}

template <class T>
__device__ T narrow(Wide<T> value) {
  return static_cast<T>(value);
}
template <>
__device__ __nv_bfloat16 narrow<__nv_bfloat16>(float value) {
  return __float2bfloat16_rn(value);
}

/// The same sum on every lane.
template <class W>
__device__ W warp_sum(W value) {
  for (int offset = kWarp / 2; offset > 0; offset /= 2) {
    value += __shfl_xor_sync(0xffffffffu, value, offset);
  }
  return value;
}

/// The same sum on every thread. All threads call it.
template <class W>
__device__ W block_sum(W value, W* shared) {
  value = warp_sum(value);
  __syncthreads();
  if (threadIdx.x % kWarp == 0) shared[threadIdx.x / kWarp] = value;
  __syncthreads();
  W sum = 0;
  for (int warp = 0; warp < kWarps; ++warp) sum += shared[warp];
  return sum;
}

template <class T>
__global__ void forward_kernel(RmsNormArguments k) {
  using W = Wide<T>;
  const std::int64_t row =
      static_cast<std::int64_t>(blockIdx.x) * kWarps + threadIdx.x / kWarp;
  if (row >= k.rows) return;
  const int lane = threadIdx.x % kWarp;
  T* x = static_cast<T*>(k.x) + row * k.x_stride;
  const T* residual = static_cast<const T*>(k.residual);
  if (residual != nullptr) residual += row * k.residual_stride;
  const W* weight = static_cast<const W*>(k.weight);
  T* out = static_cast<T*>(k.out) + row * k.out_stride;
  W squares = 0;
  for (std::int64_t c = lane; c < k.columns; c += kWarp) {
    if (residual != nullptr) x[c] = narrow<T>(widen(x[c]) + widen(residual[c]));
    const W value = widen(x[c]);
    squares += value * value;
  }
  const W mean = warp_sum(squares) / static_cast<W>(k.columns);
  const W inverse = W(1) / sqrt(mean + static_cast<W>(k.epsilon));
  if (lane == 0) static_cast<W*>(k.inverse_rms)[row] = inverse;
  for (std::int64_t c = lane; c < k.columns; c += kWarp) {
    out[c] = narrow<T>(widen(x[c]) * inverse * weight[c]);
  }
}

/// d_x may be d_out: a thread reads its columns before it writes them.
template <class T>
__global__ void gradient_kernel(RmsNormGradientArguments k,
                                std::int64_t rows_per_part) {
  using W = Wide<T>;
  __shared__ W shared[kWarps];
  const W* weight = static_cast<const W*>(k.weight);
  W* partial = static_cast<W*>(k.partial) + blockIdx.x * k.columns;
  for (std::int64_t c = threadIdx.x; c < k.columns; c += kThreads) {
    partial[c] = 0;
  }
  const std::int64_t begin = blockIdx.x * rows_per_part;
  const std::int64_t end = min(k.rows, begin + rows_per_part);
  for (std::int64_t row = begin; row < end; ++row) {
    const T* d_out = static_cast<const T*>(k.d_out) + row * k.d_out_stride;
    const T* x = static_cast<const T*>(k.x) + row * k.x_stride;
    T* d_x = static_cast<T*>(k.d_x) + row * k.d_x_stride;
    const W inverse = static_cast<const W*>(k.inverse_rms)[row];
    W product = 0;
    for (std::int64_t c = threadIdx.x; c < k.columns; c += kThreads) {
      const W d = widen(d_out[c]), n = widen(x[c]) * inverse;
      product += d * weight[c] * n;
      partial[c] += d * n;
    }
    const W mean = block_sum(product, shared) / static_cast<W>(k.columns);
    for (std::int64_t c = threadIdx.x; c < k.columns; c += kThreads) {
      const W g = widen(d_out[c]) * weight[c], n = widen(x[c]) * inverse;
      const W d = inverse * (g - n * mean);
      d_x[c] = narrow<T>(k.accumulate ? d + widen(d_x[c]) : d);
    }
  }
}

template <class W>
__global__ void add_parts_kernel(const W* partial, std::int64_t parts,
                                 std::int64_t columns, W* d_weight) {
  const std::int64_t c =
      static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (c >= columns) return;
  W sum = d_weight[c];
  for (std::int64_t part = 0; part < parts; ++part) {
    sum += partial[part * columns + c];
  }
  d_weight[c] = sum;
}

unsigned blocks(std::int64_t count, std::int64_t per_block) {
  return static_cast<unsigned>((count + per_block - 1) / per_block);
}

std::int64_t rows_per_part(std::int64_t rows) {
  return (rows + kMostParts - 1) / kMostParts;
}

template <class T>
void launch_gradient(const RmsNormGradientArguments& k, cudaStream_t stream) {
  using W = Wide<T>;
  const std::int64_t parts = rms_norm_parts(k.rows);
  gradient_kernel<T><<<static_cast<unsigned>(parts), kThreads, 0, stream>>>(
      k, rows_per_part(k.rows));
  add_parts_kernel<W><<<blocks(k.columns, kThreads), kThreads, 0, stream>>>(
      static_cast<const W*>(k.partial), parts, k.columns,
      static_cast<W*>(k.d_weight));
}

}  // namespace

std::int64_t rms_norm_parts(std::int64_t rows) {
  if (rows == 0) return 0;
  const std::int64_t part = rows_per_part(rows);
  return (rows + part - 1) / part;
}

void rms_norm(const RmsNormArguments& k, cudaStream_t stream) {
  if (k.rows == 0 || k.columns == 0) return;
  const unsigned count = blocks(k.rows, kWarps);
  switch (k.dtype) {
    case DType::kFloat32:
      forward_kernel<float><<<count, kThreads, 0, stream>>>(k);
      return;
    case DType::kBFloat16:
      forward_kernel<__nv_bfloat16><<<count, kThreads, 0, stream>>>(k);
      return;
    case DType::kFloat64:
      forward_kernel<double><<<count, kThreads, 0, stream>>>(k);
      return;
    case DType::kInt32:
    case DType::kInt64:
      return;
  }
}

void rms_norm_gradient(const RmsNormGradientArguments& k, cudaStream_t stream) {
  if (k.rows == 0 || k.columns == 0) return;
  switch (k.dtype) {
    case DType::kFloat32:
      return launch_gradient<float>(k, stream);
    case DType::kBFloat16:
      return launch_gradient<__nv_bfloat16>(k, stream);
    case DType::kFloat64:
      return launch_gradient<double>(k, stream);
    case DType::kInt32:
    case DType::kInt64:
      return;
  }
}

}  // namespace catena::cuda
