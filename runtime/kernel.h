#pragma once

#include <string_view>

namespace catena {

// Every kernel is a struct of its arguments: `kernels(Gemm{.a = x, ...})`.
// check() throws InvalidArgument on shapes and types before any backend sees
// the call; cost() is what is counted. Sums are formed in float32, or float64
// for float64 operands, whatever the storage type. `T` is the storage type of
// activations (float32, bfloat16 or float64), `W` = wide(T). Matrices may have
// padded rows (stride(0) >= columns); outputs never overlap inputs unless said.

/// What a kernel call amounts to. A multiply and an add are two FLOPs; bytes
/// are each operand once. Both are exact functions of the shapes, the same on
/// every backend.
struct Cost {
  double flops = 0, read_bytes = 0, write_bytes = 0;
};

/// What every kernel has besides its arguments.
#define CATENA_KERNEL(kernel_name)                       \
  static constexpr std::string_view kName = kernel_name; \
  void check() const;                                    \
  [[nodiscard]] Cost cost() const

}  // namespace catena
