#pragma once

#include <cstddef>
#include <memory>
#include <string>

#include "runtime/background.h"
#include "runtime/kernels.h"
#include "runtime/memory_source.h"
#include "runtime/tensor.h"

namespace catena {

enum class DeviceKind { kCpu, kMeta, kCuda };

/// One device: its memory and its kernels. The only switch on device kind.
/// Thread rule: one thread at a time.
class Backend : public MemorySource {
 public:
  [[nodiscard]] virtual DeviceKind kind() const = 0;
  /// One line for people: "CPU, 2 threads, AVX-512, native bfloat16".
  [[nodiscard]] virtual std::string description() const = 0;
  /// The type that precision "auto" stands for: bfloat16 where products in it
  /// are faster than in float32.
  [[nodiscard]] virtual DType fast_type() const { return DType::kFloat32; }

  [[nodiscard]] void* allocate(std::size_t bytes) final;
  void release(void* data, std::size_t bytes) noexcept final;
  /// What allocate() has given out: now, at most, and how often. The same on
  /// every backend, meta included.
  struct Memory {
    std::int64_t bytes = 0, peak_bytes = 0, allocations = 0;
  };
  [[nodiscard]] const Memory& memory() const { return memory_; }

  virtual void copy_from_host(void* device, const void* host,
                              std::size_t bytes) = 0;
  virtual void copy_to_host(void* host, const void* device,
                            std::size_t bytes) = 0;
  virtual void clear(void* device, std::size_t bytes) = 0;

  [[nodiscard]] virtual Kernels& kernels() = 0;

  /// Work for the calling thread between the pieces of a kernel, or between
  /// kernels whose time is modelled; null: none. Borrowed. Where kernels leave
  /// that thread alone nothing is called.
  virtual void set_background(Background*) {}

 private:
  [[nodiscard]] virtual void* take(std::size_t bytes) = 0;
  virtual void give_back(void* data) = 0;

  Memory memory_;
};

/// threads: workers beside none, 0 = one per core that this process may use.
[[nodiscard]] std::unique_ptr<Backend> make_cpu_backend(int threads);
/// Computes shapes and counts; memory is addresses without storage. Kernels
/// take as long as `model` says, without one no time.
[[nodiscard]] std::unique_ptr<Backend> make_meta_backend(
    KernelModel model = {});
/// Throws: Unsupported where CUDA was not built, Device where no GPU answers.
[[nodiscard]] std::unique_ptr<Backend> make_cuda_backend(int device);

/// Memory with an owner, cleared at birth. Movable.
class Tensor {
 public:
  Tensor() = default;
  Tensor(Backend& backend, DType dtype, const Shape& shape);
  ~Tensor();
  Tensor(Tensor&& other) noexcept;
  Tensor& operator=(Tensor&& other) noexcept;

  [[nodiscard]] const TensorView& view() const { return view_; }
  [[nodiscard]] bool defined() const { return backend_ != nullptr; }

 private:
  Backend* backend_ = nullptr;
  TensorView view_;
};

}  // namespace catena
