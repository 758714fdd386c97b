#pragma once

#include <cuda_bf16.h>

/// What the .cu files share on the device: element types, vectors of 16 bytes,
/// sums over a warp.
namespace catena::cuda {

inline constexpr int kWarp = 32;

/// W of an element type T (runtime/kernels.h).
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

/// Rounds to nearest, ties to even.
template <class T>
__device__ T narrow(Wide<T> value) {
  return static_cast<T>(value);
}
template <>
__device__ inline __nv_bfloat16 narrow<__nv_bfloat16>(float value) {
  return __float2bfloat16_rn(value);
}

/// Elements that move together, 16 bytes an access: addresses are multiples
/// of 16.
template <class E, int n>
struct alignas(16) Pack {
  E at[n];

  __device__ static Pack load(const E* from) {
    return *reinterpret_cast<const Pack*>(from);
  }
  __device__ void store(E* to) const { *reinterpret_cast<Pack*>(to) = *this; }
};

/// Elements of type T in 16 bytes.
template <class T>
inline constexpr int kWidth = 16 / sizeof(T);
template <class T>
using Vector = Pack<T, kWidth<T>>;
/// The same elements, widened.
template <class T>
using WideVector = Pack<Wide<T>, kWidth<T>>;

/// Changes nothing. A vector that is used on both sides of a barrier passes
/// here between them, or the compiler carries its widened elements across: for
/// bfloat16 twice the registers.
template <class T>
__device__ void keep_narrow(Vector<T>& vector) {
  auto* at = reinterpret_cast<unsigned*>(&vector);
  asm volatile("" : "+r"(at[0]), "+r"(at[1]), "+r"(at[2]), "+r"(at[3]));
}

/// The same sum on every lane.
template <class W>
__device__ W warp_sum(W value) {
  for (int offset = kWarp / 2; offset > 0; offset /= 2) {
    value += __shfl_xor_sync(0xffffffffu, value, offset);
  }
  return value;
}

}  // namespace catena::cuda
