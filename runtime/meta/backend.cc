// Shapes, FLOPs, bytes and peak memory come from the checks and counters that
// all backends share (kernels.h) and from the arenas, which only need distinct
// addresses. So this backend computes nothing at all.

#include "runtime/backend.h"

#include <cstdint>
#include <utility>

namespace catena {
namespace {

class MetaKernels final : public Kernels {
 public:
  explicit MetaKernels(KernelModel model) {
    if (!model) {
      model_ = [](std::string_view, const Cost&) { return 0.0; };
      return;
    }
    model_ = [this, model = std::move(model)](std::string_view kernel,
                                              const Cost& cost) {
      if (background != nullptr) background->advance();
      return model(kernel, cost);
    };
  }

  Background* background = nullptr;

 protected:
  void run(const Gemm&) override {}
  void run(const GroupedGemm&) override {}
  void run(const GroupedGemmGradient&) override {}
  void run(const GroupRows&) override {}
  void run(const PartitionRows&) override {}
  void run(const GatherRows&) override {}
  void run(const ScatterAddRows&) override {}
  void run(const CombineRows&) override {}
  void run(const TopK&) override {}
  void run(const TopKGradient&) override {}
  void run(const SegmentSums&) override {}
  void run(const BalanceLoss&) override {}
  void run(const PairCounts&) override {}
  void run(const RmsNorm&) override {}
  void run(const RmsNormGradient&) override {}
  void run(const Rope&) override {}
  void run(const Attention&) override {}
  void run(const AttentionGradient&) override {}
  void run(const SwiGlu&) override {}
  void run(const SwiGluGradient&) override {}
  void run(const CrossEntropy&) override {}
  void run(const AdamW&) override {}
  void run(const SumSquares&) override {}
  void run(const Sum&) override {}
  void run(const CountNonFinite&) override {}
  void run(const Add&) override {}
  void run(const Copy&) override {}
  void run(const Fill&) override {}
  void run(const SumMiddle&) override {}
};

class MetaBackend final : public Backend {
 public:
  explicit MetaBackend(KernelModel model) : kernels_(std::move(model)) {}
  [[nodiscard]] DeviceKind kind() const override { return DeviceKind::kMeta; }
  [[nodiscard]] std::string description() const override {
    return "meta: shapes and costs, no values";
  }
  void copy_from_host(void*, const void*, std::size_t) override {}
  void copy_to_host(void* host, const void*, std::size_t bytes) override {
    // There are no values; zeros keep the reader deterministic.
    auto* to = static_cast<unsigned char*>(host);
    for (std::size_t i = 0; i < bytes; ++i) to[i] = 0;
  }
  void clear(void*, std::size_t) override {}
  [[nodiscard]] Kernels& kernels() override { return kernels_; }
  void set_background(Background* work) override { kernels_.background = work; }

 private:
  // Addresses from the non-canonical half of the address space: following one
  // faults instead of reading somebody's memory.
  [[nodiscard]] void* take(std::size_t bytes) override {
    const std::uintptr_t address = next_;
    next_ += (bytes + 63) / 64 * 64;
    return reinterpret_cast<void*>(address);
  }
  void give_back(void*) override {}

  std::uintptr_t next_ = std::uintptr_t{1} << 63;
  MetaKernels kernels_;
};

}  // namespace

std::unique_ptr<Backend> make_meta_backend(KernelModel model) {
  return std::make_unique<MetaBackend>(std::move(model));
}

}  // namespace catena
