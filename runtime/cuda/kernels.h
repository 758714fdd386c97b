#pragma once

#include <cuda_runtime_api.h>

#include "runtime/kernels.h"

namespace catena::cuda {

/// The kernels of one GPU, on one stream: calls return at once. Those that are
/// not on CUDA yet throw Unsupported with their name.
class CudaKernels final : public Kernels {
 public:
  /// Borrows the stream.
  explicit CudaKernels(cudaStream_t stream) : stream_(stream) {}
  ~CudaKernels() override;
  CudaKernels(const CudaKernels&) = delete;
  CudaKernels& operator=(const CudaKernels&) = delete;

 protected:
  void run(const RmsNorm&) override;
  void run(const RmsNormGradient&) override;

  void run(const Gemm&) override;
  void run(const GroupedGemm&) override;
  void run(const GroupedGemmGradient&) override;
  void run(const GroupRows&) override;
  void run(const PartitionRows&) override;
  void run(const GatherRows&) override;
  void run(const ScatterAddRows&) override;
  void run(const CombineRows&) override;
  void run(const TopK&) override;
  void run(const TopKGradient&) override;
  void run(const SegmentSums&) override;
  void run(const BalanceLoss&) override;
  void run(const PairCounts&) override;
  void run(const Rope&) override;
  void run(const Attention&) override;
  void run(const AttentionGradient&) override;
  void run(const SwiGlu&) override;
  void run(const SwiGluGradient&) override;
  void run(const CrossEntropy&) override;
  void run(const AdamW&) override;
  void run(const SumSquares&) override;
  void run(const Sum&) override;
  void run(const CountNonFinite&) override;
  void run(const Add&) override;
  void run(const Copy&) override;
  void run(const Fill&) override;
  void run(const SumMiddle&) override;

 private:
  /// Device memory between kernels of one call; only grows.
  void* scratch(std::int64_t bytes);

  cudaStream_t stream_;
  void* scratch_ = nullptr;
  std::int64_t scratch_bytes_ = 0;
};

}  // namespace catena::cuda
