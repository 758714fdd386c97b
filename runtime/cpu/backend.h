#pragma once

#include <string>

#include "runtime/backend.h"
#include "runtime/cpu/thread_pool.h"

namespace catena::cpu {

/// The CPU's kernels; each run() stands in the file named for it (see
/// runtime/CMakeLists.txt). Arguments are already checked.
class CpuKernels final : public Kernels {
 public:
  explicit CpuKernels(int threads) : pool_(threads) {}
  [[nodiscard]] ThreadPool& pool() { return pool_; }

 protected:
  void run(const Gemm&) override;                 // gemm.cc
  void run(const GroupedGemm&) override;          // grouped_gemm.cc
  void run(const GroupedGemmGradient&) override;  // grouped_gemm.cc
  void run(const GroupRows&) override;            // group_rows.cc
  void run(const PartitionRows&) override;        // group_rows.cc
  void run(const GatherRows&) override;           // gather_rows.cc
  void run(const ScatterAddRows&) override;       // gather_rows.cc
  void run(const CombineRows&) override;          // gather_rows.cc
  void run(const TopK&) override;                 // top_k.cc
  void run(const TopKGradient&) override;         // top_k_gradient.cc
  void run(const SegmentSums&) override;          // segment_sums.cc
  void run(const BalanceLoss&) override;          // segment_sums.cc
  void run(const PairCounts&) override;           // segment_sums.cc
  void run(const RmsNorm&) override;              // rms_norm.cc
  void run(const RmsNormGradient&) override;      // rms_norm.cc
  void run(const Rope&) override;                 // rope.cc
  void run(const Attention&) override;            // attention.cc
  void run(const AttentionGradient&) override;    // attention_gradient.cc
  void run(const SwiGlu&) override;               // swiglu.cc
  void run(const SwiGluGradient&) override;       // swiglu.cc
  void run(const CrossEntropy&) override;         // cross_entropy.cc
  void run(const AdamW&) override;                // adamw.cc
  void run(const SumSquares&) override;           // reduce.cc
  void run(const Sum&) override;                  // reduce.cc
  void run(const CountNonFinite&) override;       // reduce.cc
  void run(const Add&) override;                  // reduce.cc
  void run(const Copy&) override;                 // reduce.cc
  void run(const Fill&) override;                 // reduce.cc
  void run(const SumMiddle&) override;            // reduce.cc

 private:
  ThreadPool pool_;
};

}  // namespace catena::cpu
