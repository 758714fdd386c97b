#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "runtime/dtype.h"

/// Device halves of RmsNorm and RmsNormGradient (runtime/kernels.h), as plain
/// pointers: the .cu files include nothing that formats text, which nvcc 13.0
/// cannot compile in C++20. Strides are in elements. Rows that start on a
/// multiple of 16 bytes and are whole vectors of 16 bytes, 1024 at most, take
/// a path several times as fast as others. Both functions return at once; a
/// launch that failed is left to cudaGetLastError().
namespace catena::cuda {

struct RmsNormArguments {
  DType dtype;
  std::int64_t rows, columns;
  void* x;
  std::int64_t x_stride;
  const void* residual;  ///< added to x first, unless null
  std::int64_t residual_stride;
  const void* weight;
  void* out;
  std::int64_t out_stride;
  void* inverse_rms;
  double epsilon;
};
void rms_norm(const RmsNormArguments& k, cudaStream_t stream);

struct RmsNormGradientArguments {
  DType dtype;
  std::int64_t rows, columns;
  const void* d_out;
  std::int64_t d_out_stride;
  const void* x;
  std::int64_t x_stride;
  const void* weight;
  const void* inverse_rms;
  void* d_x;
  std::int64_t d_x_stride;
  void* d_weight;
  bool accumulate;
  /// [rms_norm_parts(rows), columns] of the wide type; contents are lost.
  void* partial;
};
/// Pieces that d_weight is summed in: a function of the rows alone.
[[nodiscard]] std::int64_t rms_norm_parts(std::int64_t rows);
void rms_norm_gradient(const RmsNormGradientArguments& k, cudaStream_t stream);

}  // namespace catena::cuda
