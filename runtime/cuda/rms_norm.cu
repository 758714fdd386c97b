// RmsNorm and RmsNormGradient, each in two forms.
//
// Vectors: for rows of whole vectors of 16 bytes that start on a multiple of
// 16, weight and `partial` too. A team of whole warps takes a row, and keeps
// it in registers from the first use to the last. blockDim = (team, teams).
//   RmsNorm: a thread takes kVectors vectors of a row, a team apart, and a
//   block as many rows as have room in 128 threads, at least one. Rows of up
//   to 2048 vectors: 16384 columns of bfloat16, 8192 of float32, 4096 of
//   float64. Shared memory: 32 sums.
//   RmsNormGradient: a thread takes one vector of kRows rows at once, and a
//   block as many teams as have room in 512 threads, at least one. Rows of up
//   to 1024 vectors: half the columns above. Shared memory: 128 sums, and for
//   half of 512 threads their sums of d_weight, 9 KiB at most.
//
// Elements: for all other rows, aligned as one element.
//   RmsNorm: a warp takes a row, eight rows a block of 256 threads; the lanes
//   stride over the columns, twice. No shared memory.
//   RmsNormGradient: a block of 256 threads takes one row after the other; a
//   thread takes the columns c with c % 256 = its number. Shared memory: 8
//   sums.
//
// In both forms a block of the gradient takes a fixed range of rows and leaves
// its part of d_weight in memory: no atomics. A last kernel adds the parts, 32
// columns a block: each of 32 warps adds every 32nd part, then the first warp
// their sums, in order. Shared memory: 1024 sums.

#include <cuda_bf16.h>

#include <initializer_list>

#include "runtime/cuda/elements.cuh"
#include "runtime/cuda/rms_norm.h"

namespace catena::cuda {
namespace {

// Four loads of 16 bytes a thread are on their way at once: with fewer, or
// fewer threads, memory waits.
constexpr int kVectors = 4;
constexpr int kForwardThreads = 128, kMostForwardThreads = 512;
constexpr int kRows = 2;
constexpr int kGradientThreads = 512, kMostGradientThreads = 1024;
/// Two blocks, of 64 registers a thread, on each of 132 multiprocessors.
constexpr std::int64_t kMostParts = 264;
constexpr int kSlices = 32;

/// Of the kernels that take elements.
constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarp;

template <class W, int n>
using TeamSums = W[n][kMostGradientThreads / kWarp];

/// Sums over each team, the same on its every thread. All threads call it. Two
/// calls in a row take two `shared`: one barrier a call is enough then.
template <class W, int n>
__device__ void team_sums(W (&values)[n], TeamSums<W, n>& shared) {
  for (W& value : values) value = warp_sum(value);
  const int warps = blockDim.x / kWarp;
  if (warps == 1) return;
  const int lane = threadIdx.x % kWarp, first = threadIdx.y * warps;
  for (int i = 0; i < n; ++i) {
    if (lane == 0) shared[i][first + threadIdx.x / kWarp] = values[i];
  }
  __syncthreads();
  for (int i = 0; i < n; ++i) {
    values[i] = warp_sum(lane < warps ? shared[i][first + lane] : W(0));
  }
}

template <class T>
__global__ void __launch_bounds__(kMostForwardThreads)
    forward_vectors(RmsNormArguments k) {
  using W = Wide<T>;
  __shared__ TeamSums<W, 1> shared;
  const std::int64_t row =
      static_cast<std::int64_t>(blockIdx.x) * blockDim.y + threadIdx.y;
  const auto column = [](int v) {
    return (v * blockDim.x + threadIdx.x) * kWidth<T>;
  };
  const auto inside = [&](int v) {
    return row < k.rows && column(v) < k.columns;
  };
  T* x = static_cast<T*>(k.x) + row * k.x_stride;
  const T* residual = static_cast<const T*>(k.residual);
  if (residual != nullptr) residual += row * k.residual_stride;
  Vector<T> values[kVectors] = {}, added[kVectors] = {};
  for (int v = 0; v < kVectors; ++v) {
    if (inside(v)) values[v] = Vector<T>::load(x + column(v));
  }
  for (int v = 0; v < kVectors && residual != nullptr; ++v) {
    if (inside(v)) added[v] = Vector<T>::load(residual + column(v));
  }
  W squares[1] = {};
  for (int v = 0; v < kVectors; ++v) {
    for (int i = 0; i < kWidth<T>; ++i) {
      T& value = values[v].at[i];
      if (residual != nullptr) {
        value = narrow<T>(widen(value) + widen(added[v].at[i]));
      }
      squares[0] += widen(value) * widen(value);
    }
    if (residual != nullptr && inside(v)) values[v].store(x + column(v));
  }
  team_sums(squares, shared);
  const W mean = squares[0] / static_cast<W>(k.columns);
  const W inverse = W(1) / sqrt(mean + static_cast<W>(k.epsilon));
  if (row < k.rows && threadIdx.x == 0) {
    static_cast<W*>(k.inverse_rms)[row] = inverse;
  }
  const W* weight = static_cast<const W*>(k.weight);
  T* out = static_cast<T*>(k.out) + row * k.out_stride;
  for (int v = 0; v < kVectors; ++v) {
    if (!inside(v)) return;
    keep_narrow<T>(values[v]);
    const auto w = WideVector<T>::load(weight + column(v));
    for (int i = 0; i < kWidth<T>; ++i) {
      T& value = values[v].at[i];
      value = narrow<T>(widen(value) * inverse * w.at[i]);
    }
    values[v].store(out + column(v));
  }
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

/// Adds up the teams' sums in their order, through shared memory.
template <class T>
__device__ void store_part(WideVector<T>& sums, bool inside, Wide<T>* partial) {
  // More than one team: each has at most half of the threads.
  __shared__ WideVector<T> between[kGradientThreads / 2];
  const int last = blockDim.y - 1;
  for (int team = 0; team <= last; ++team) {
    if (inside && threadIdx.y == team) {
      for (int i = 0; team > 0 && i < kWidth<T>; ++i) {
        sums.at[i] += between[threadIdx.x].at[i];
      }
      if (team < last) {
        between[threadIdx.x] = sums;
      } else {
        sums.store(partial + threadIdx.x * kWidth<T>);
      }
    }
    __syncthreads();
  }
}

/// d_x may be d_out: a thread reads its vectors before it writes them.
template <class T, bool accumulate>
__global__ void __launch_bounds__(kMostGradientThreads)
    gradient_vectors(RmsNormGradientArguments k, std::int64_t rows_per_part) {
  using W = Wide<T>;
  __shared__ TeamSums<W, kRows> shared[2];
  const int c = threadIdx.x * kWidth<T>;
  const int team = threadIdx.y, teams = blockDim.y;
  const std::int64_t begin = blockIdx.x * rows_per_part;
  const int rows = min(k.rows - begin, rows_per_part);
  const T* d_out_at =
      static_cast<const T*>(k.d_out) + begin * k.d_out_stride + c;
  const T* x_at = static_cast<const T*>(k.x) + begin * k.x_stride + c;
  T* d_x_at = static_cast<T*>(k.d_x) + begin * k.d_x_stride + c;
  const W* inverse_at = static_cast<const W*>(k.inverse_rms) + begin;
  const bool column = c < k.columns;
  WideVector<T> weight = {}, sums = {};
  if (column) {
    weight = WideVector<T>::load(static_cast<const W*>(k.weight) + c);
  }
  int turn = 0;
  for (int first = 0; first < rows; first += kRows * teams) {
    const auto row = [&](int r) { return first + r * teams + team; };
    const auto inside = [&](int r) { return column && row(r) < rows; };
    Vector<T> d_out[kRows] = {}, x[kRows] = {}, old[kRows] = {};
    W inverse[kRows] = {}, mean[kRows] = {};
    for (int r = 0; r < kRows; ++r) {
      if (!inside(r)) continue;
      d_out[r] = Vector<T>::load(d_out_at + row(r) * k.d_out_stride);
      x[r] = Vector<T>::load(x_at + row(r) * k.x_stride);
      inverse[r] = inverse_at[row(r)];
    }
    for (int r = 0; r < kRows; ++r) {
      if (!inside(r) || !accumulate) continue;
      old[r] = Vector<T>::load(d_x_at + row(r) * k.d_x_stride);
    }
    for (int r = 0; r < kRows; ++r) {
      for (int i = 0; i < kWidth<T>; ++i) {
        const W d = widen(d_out[r].at[i]), n = widen(x[r].at[i]) * inverse[r];
        mean[r] += d * weight.at[i] * n;
        sums.at[i] += d * n;
      }
    }
    team_sums(mean, shared[turn]);
    turn = 1 - turn;
    for (int r = 0; r < kRows; ++r) {
      if (!inside(r)) continue;
      keep_narrow<T>(d_out[r]);
      keep_narrow<T>(x[r]);
      const W scale =
          inverse[r] * inverse[r] * mean[r] / static_cast<W>(k.columns);
      for (int i = 0; i < kWidth<T>; ++i) {
        const W g = widen(d_out[r].at[i]) * weight.at[i];
        const W d = g * inverse[r] - widen(x[r].at[i]) * scale;
        d_out[r].at[i] = narrow<T>(accumulate ? d + widen(old[r].at[i]) : d);
      }
      d_out[r].store(d_x_at + row(r) * k.d_x_stride);
    }
  }
  store_part<T>(sums, column,
                static_cast<W*>(k.partial) + blockIdx.x * k.columns);
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
  __shared__ W shared[kSlices][kWarp];
  const std::int64_t c =
      static_cast<std::int64_t>(blockIdx.x) * kWarp + threadIdx.x;
  W sum = 0;
#pragma unroll 8
  for (std::int64_t part = threadIdx.y; part < parts; part += kSlices) {
    if (c < columns) sum += partial[part * columns + c];
  }
  shared[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y != 0 || c >= columns) return;
  sum = d_weight[c];
  for (const auto& slice : shared) sum += slice[threadIdx.x];
  d_weight[c] = sum;
}

unsigned blocks(std::int64_t count, std::int64_t per_block) {
  return static_cast<unsigned>((count + per_block - 1) / per_block);
}

std::int64_t rows_per_part(std::int64_t rows) {
  return (rows + kMostParts - 1) / kMostParts;
}

struct Rows {
  const void* data;
  std::int64_t stride;
};

template <class T>
bool whole_vectors(std::int64_t columns, std::initializer_list<Rows> tensors) {
  for (const Rows& rows : tensors) {
    if (reinterpret_cast<std::uintptr_t>(rows.data) % 16 != 0) return false;
    if (rows.stride % kWidth<T> != 0) return false;
  }
  return columns % kWidth<T> == 0;
}

/// (team, teams): as many teams as have room in so many threads, whose threads
/// take so many vectors each.
template <class T>
dim3 teams(std::int64_t columns, int vectors, unsigned threads) {
  const unsigned team = kWarp * blocks(columns, kWarp * vectors * kWidth<T>);
  return {team, team < threads ? threads / team : 1};
}

template <class T>
void launch(const RmsNormArguments& k, cudaStream_t stream) {
  const dim3 block = teams<T>(k.columns, kVectors, kForwardThreads);
  if (block.x <= kMostForwardThreads &&
      whole_vectors<T>(k.columns, {{k.x, k.x_stride},
                                   {k.residual, k.residual_stride},
                                   {k.weight, 0},
                                   {k.out, k.out_stride}})) {
    forward_vectors<T><<<blocks(k.rows, block.y), block, 0, stream>>>(k);
  } else {
    forward_kernel<T><<<blocks(k.rows, kWarps), kThreads, 0, stream>>>(k);
  }
}

template <class T>
void launch(const RmsNormGradientArguments& k, cudaStream_t stream) {
  using W = Wide<T>;
  const std::int64_t parts = rms_norm_parts(k.rows);
  dim3 block = teams<T>(k.columns, 1, kGradientThreads);
  auto kernel =
      k.accumulate ? gradient_vectors<T, true> : gradient_vectors<T, false>;
  if (block.x > kMostGradientThreads ||
      !whole_vectors<T>(k.columns, {{k.d_out, k.d_out_stride},
                                    {k.x, k.x_stride},
                                    {k.weight, 0},
                                    {k.d_x, k.d_x_stride},
                                    {k.partial, 0}})) {
    block = kThreads;
    kernel = gradient_kernel<T>;
  }
  kernel<<<static_cast<unsigned>(parts), block, 0, stream>>>(
      k, rows_per_part(k.rows));
  add_parts_kernel<W>
      <<<blocks(k.columns, kWarp), dim3(kWarp, kSlices), 0, stream>>>(
          static_cast<const W*>(k.partial), parts, k.columns,
          static_cast<W*>(k.d_weight));
}

template <class Arguments>
void launch_typed(const Arguments& k, cudaStream_t stream) {
  if (k.rows == 0 || k.columns == 0) return;
  switch (k.dtype) {
    case DType::kFloat32:
      return launch<float>(k, stream);
    case DType::kBFloat16:
      return launch<__nv_bfloat16>(k, stream);
    case DType::kFloat64:
      return launch<double>(k, stream);
    case DType::kInt32:
    case DType::kInt64:
      return;
  }
}

}  // namespace

std::int64_t rms_norm_parts(std::int64_t rows) {
  if (rows == 0) return 0;
  const std::int64_t part = rows_per_part(rows);
  return (rows + part - 1) / part;
}

void rms_norm(const RmsNormArguments& k, cudaStream_t stream) {
  launch_typed(k, stream);
}

void rms_norm_gradient(const RmsNormGradientArguments& k, cudaStream_t stream) {
  launch_typed(k, stream);
}

}  // namespace catena::cuda
