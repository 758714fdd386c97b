#include "runtime/cpu/backend.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "runtime/base/machine.h"
#include "runtime/cpu/matmul.h"

namespace catena {
namespace {

constexpr std::size_t kAlignment = 64;
constexpr std::size_t kHugePage = std::size_t{2} << 20;

std::string_view instruction_set() {
#if defined(__AVX512F__)
  return "AVX-512";
#elif defined(__AVX2__)
  return "AVX2";
#elif defined(__x86_64__)
  return "SSE2";
#elif defined(__aarch64__)
  return "NEON";
#else
  return "scalar instructions";
#endif
}

double gibibytes(std::size_t bytes) {
  return static_cast<double>(bytes) / (1u << 30);
}

class CpuBackend final : public Backend {
 public:
  explicit CpuBackend(int threads)
      : kernels_(threads), threads_(kernels_.pool().threads()) {}

  [[nodiscard]] DeviceKind kind() const override { return DeviceKind::kCpu; }

  [[nodiscard]] std::string description() const override {
    return fmt::format(
        "CPU, {} thread{}, {}, {}", threads_, threads_ == 1 ? "" : "s",
        instruction_set(),
        cpu::multiplies_bfloat16() ? "native bfloat16" : "no native bfloat16");
  }

  [[nodiscard]] DType fast_type() const override {
    return cpu::multiplies_bfloat16() ? DType::kBFloat16 : DType::kFloat32;
  }

  void copy_from_host(void* device, const void* host,
                      std::size_t bytes) override {
    if (bytes > 0) std::memcpy(device, host, bytes);
  }
  void copy_to_host(void* host, const void* device,
                    std::size_t bytes) override {
    if (bytes > 0) std::memcpy(host, device, bytes);
  }
  void clear(void* device, std::size_t bytes) override {
    if (bytes > 0) std::memset(device, 0, bytes);
  }

  [[nodiscard]] Kernels& kernels() override { return kernels_; }

  void set_background(Background* work) override {
    kernels_.pool().set_background(work);
  }

 private:
  // Large blocks lie on huge pages where the system allows: a step touches
  // them all, and page faults and table walks cost more than the waste.
  [[nodiscard]] void* take(std::size_t bytes) override {
    const bool huge = bytes >= 2 * kHugePage;
    const std::size_t unit = huge ? kHugePage : kAlignment;
    // The system would promise more than there is and kill the process later.
    const auto most = static_cast<std::size_t>(memory_limit_bytes());
    void* data = nullptr;
    if (bytes <= most) {
      const std::size_t rounded =
          (std::max<std::size_t>(bytes, 1) + unit - 1) / unit * unit;
      data = std::aligned_alloc(unit, rounded);
      if (huge && data != nullptr) madvise(data, rounded, MADV_HUGEPAGE);
    }
    if (data == nullptr) {
      fail(ErrorKind::kDoesNotFit,
           "{} bytes ({:.1f} GiB) of memory are needed at once, there are "
           "{:.1f} GiB: use a smaller batch, sequence or model",
           bytes, gibibytes(bytes), gibibytes(most));
    }
    return data;
  }

  void give_back(void* data) override { std::free(data); }

  cpu::CpuKernels kernels_;
  int threads_;
};

}  // namespace

std::unique_ptr<Backend> make_cpu_backend(int threads) {
  return std::make_unique<CpuBackend>(threads);
}

}  // namespace catena
