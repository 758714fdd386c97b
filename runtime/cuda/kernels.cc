#include "runtime/cuda/kernels.h"

#include <algorithm>

#include "runtime/cuda/check.h"
#include "runtime/cuda/rms_norm.h"

namespace catena::cuda {
namespace {

template <class Kernel>
[[noreturn]] void absent(const Kernel&) {
  fail(ErrorKind::kUnsupported, "kernel {} is not on CUDA yet; use the CPU",
       Kernel::kName);
}

}  // namespace

CudaKernels::~CudaKernels() { cudaFree(scratch_); }

void* CudaKernels::scratch(std::int64_t bytes) {
  if (bytes > scratch_bytes_) {
    // cudaFree waits for the kernels that still use the old memory.
    CATENA_CUDA(cudaFree(scratch_));
    scratch_ = nullptr;
    scratch_bytes_ = 0;
    CATENA_CUDA(cudaMalloc(&scratch_, static_cast<std::size_t>(bytes)));
    scratch_bytes_ = bytes;
  }
  return scratch_;
}

void CudaKernels::run(const RmsNorm& k) {
  rms_norm({.dtype = k.x.dtype(),
            .rows = k.x.size(0),
            .columns = k.x.size(1),
            .x = k.x.data(),
            .x_stride = k.x.stride(0),
            .residual = k.residual.defined() ? k.residual.data() : nullptr,
            .residual_stride = k.residual.defined() ? k.residual.stride(0) : 0,
            .weight = k.weight.data(),
            .out = k.out.data(),
            .out_stride = k.out.stride(0),
            .inverse_rms = k.inverse_rms.data(),
            .epsilon = k.epsilon},
           stream_);
  CATENA_CUDA(cudaGetLastError());
}

void CudaKernels::run(const RmsNormGradient& k) {
  const std::int64_t rows = k.x.size(0), columns = k.x.size(1);
  const std::int64_t partial = rms_norm_parts(rows) * columns;
  rms_norm_gradient(
      {.dtype = k.x.dtype(),
       .rows = rows,
       .columns = columns,
       .d_out = k.d_out.data(),
       .d_out_stride = k.d_out.stride(0),
       .x = k.x.data(),
       .x_stride = k.x.stride(0),
       .weight = k.weight.data(),
       .inverse_rms = k.inverse_rms.data(),
       .d_x = k.d_x.data(),
       .d_x_stride = k.d_x.stride(0),
       .d_weight = k.d_weight.data(),
       .accumulate = k.accumulate,
       .partial = scratch(partial * size_bytes(wide(k.x.dtype())))},
      stream_);
  CATENA_CUDA(cudaGetLastError());
}

void CudaKernels::run(const Gemm& k) { absent(k); }
void CudaKernels::run(const GroupedGemm& k) { absent(k); }
void CudaKernels::run(const GroupedGemmGradient& k) { absent(k); }
void CudaKernels::run(const GroupRows& k) { absent(k); }
void CudaKernels::run(const PartitionRows& k) { absent(k); }
void CudaKernels::run(const GatherRows& k) { absent(k); }
void CudaKernels::run(const ScatterAddRows& k) { absent(k); }
void CudaKernels::run(const CombineRows& k) { absent(k); }
void CudaKernels::run(const TopK& k) { absent(k); }
void CudaKernels::run(const TopKGradient& k) { absent(k); }
void CudaKernels::run(const SegmentSums& k) { absent(k); }
void CudaKernels::run(const BalanceLoss& k) { absent(k); }
void CudaKernels::run(const PairCounts& k) { absent(k); }
void CudaKernels::run(const Rope& k) { absent(k); }
void CudaKernels::run(const Attention& k) { absent(k); }
void CudaKernels::run(const AttentionGradient& k) { absent(k); }
void CudaKernels::run(const SwiGlu& k) { absent(k); }
void CudaKernels::run(const SwiGluGradient& k) { absent(k); }
void CudaKernels::run(const CrossEntropy& k) { absent(k); }
void CudaKernels::run(const AdamW& k) { absent(k); }
void CudaKernels::run(const SumSquares& k) { absent(k); }
void CudaKernels::run(const Sum& k) { absent(k); }
void CudaKernels::run(const CountNonFinite& k) { absent(k); }
void CudaKernels::run(const Add& k) { absent(k); }
void CudaKernels::run(const Copy& k) { absent(k); }
void CudaKernels::run(const Fill& k) { absent(k); }
void CudaKernels::run(const SumMiddle& k) { absent(k); }

}  // namespace catena::cuda
