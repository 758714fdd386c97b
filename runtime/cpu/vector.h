#pragma once

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <new>
#include <type_traits>
#include <utility>

#include "runtime/dtype.h"

namespace catena::cpu {

#if defined(__AVX512F__)
inline constexpr int kVectorBytes = 64;
#elif defined(__AVX__)
inline constexpr int kVectorBytes = 32;
#else
inline constexpr int kVectorBytes = 16;
#endif

namespace internal {
template <class T, int kBytes>
struct VectorOf {
  typedef T type __attribute__((vector_size(kBytes)));
};
/// The bits of a register of BFloat16 that widens to one of float.
typedef std::uint16_t HalfVector __attribute__((vector_size(kVectorBytes / 2)));
typedef std::uint32_t WordVector __attribute__((vector_size(kVectorBytes)));

/// One instruction, where __builtin_convertvector becomes four.
[[nodiscard]] inline WordVector widen(const HalfVector& half) {
#if defined(__AVX512F__)
  return std::bit_cast<WordVector>(
      _mm512_maskz_cvtepu16_epi32(0xffff, std::bit_cast<__m256i>(half)));
#elif defined(__AVX2__)
  return std::bit_cast<WordVector>(
      _mm256_cvtepu16_epi32(std::bit_cast<__m128i>(half)));
#else
  return __builtin_convertvector(half, WordVector);
#endif
}
}  // namespace internal

/// A register of T; arithmetic and comparisons work lane by lane, a scalar
/// operand is repeated. kLanes<T> values.
template <class T>
using Vector = typename internal::VectorOf<T, kVectorBytes>::type;
template <class T>
inline constexpr int kLanes = kVectorBytes / static_cast<int>(sizeof(T));

/// What sums of T are formed in: float for BFloat16, else T.
template <class T>
using Wide = std::conditional_t<std::is_same_v<T, BFloat16>, float, T>;

/// Lanes of T read as integers of the same size.
template <class T>
using LaneInteger =
    std::conditional_t<sizeof(T) == 8, std::int64_t, std::int32_t>;

template <class T>
[[nodiscard]] inline Vector<T> broadcast(T value) {
  return Vector<T>{} + value;
}

/// kLanes values from or to any address. BFloat16 widens on the way in and is
/// rounded to nearest even on the way out, so that rows of any storage type
/// are vectors of Wide<T>.
template <class T>
[[nodiscard]] inline Vector<Wide<T>> load(const T* from) {
  if constexpr (std::is_same_v<T, BFloat16>) {
    internal::HalfVector half;
    std::memcpy(&half, from, sizeof(half));
    return std::bit_cast<Vector<float>>(internal::widen(half) << 16);
  } else {
    Vector<T> value;
    std::memcpy(&value, from, sizeof(value));
    return value;
  }
}
template <class T>
inline void store(T* to, const Vector<Wide<T>>& value) {
  if constexpr (std::is_same_v<T, BFloat16>) {
    const auto word = std::bit_cast<Vector<std::uint32_t>>(value);
    const Vector<std::uint32_t> rounded =
        (word + 0x7fffu + ((word >> 16) & 1u)) >> 16;
    const Vector<std::uint32_t> quiet = (word >> 16) | 0x40u;
    const Vector<std::uint32_t> chosen =
        (word & 0x7fffffffu) > 0x7f800000u ? quiet : rounded;
    const internal::HalfVector half =
        __builtin_convertvector(chosen, internal::HalfVector);
    std::memcpy(to, &half, sizeof(half));
  } else {
    std::memcpy(to, &value, sizeof(value));
  }
}

/// The first `count` lanes, the others 0; count may exceed kLanes.
template <class T>
[[nodiscard]] inline Vector<Wide<T>> load(const T* from, std::int64_t count) {
  constexpr int kWidth = kLanes<Wide<T>>;
  if (count >= kWidth) return load(from);
  T lanes[kWidth] = {};
  if (count > 0) {
    std::memcpy(lanes, from, static_cast<std::size_t>(count) * sizeof(T));
  }
  return load(lanes);
}
template <class T>
inline void store(T* to, const Vector<Wide<T>>& value, std::int64_t count) {
  constexpr int kWidth = kLanes<Wide<T>>;
  if (count >= kWidth) return store(to, value);
  T lanes[kWidth];
  store(lanes, value);
  if (count > 0) {
    std::memcpy(to, lanes, static_cast<std::size_t>(count) * sizeof(T));
  }
}

/// Lane by lane; where either is not a number, b.
template <class T>
[[nodiscard]] inline T larger(const T& a, const T& b) {
  return a > b ? a : b;
}

/// Sum of the lanes, in an order fixed by their number.
template <class T>
[[nodiscard]] inline T sum(const Vector<T>& value) {
  T lanes[kLanes<T>];
  store(lanes, value);
  for (int width = kLanes<T> / 2; width > 0; width /= 2) {
    for (int lane = 0; lane < width; ++lane) lanes[lane] += lanes[lane + width];
  }
  return lanes[0];
}

/// e^x to a relative error of 2e-7; 0 below -86.9 and inf above 88.72.
/// Source: range reduction by ln 2 in two parts, polynomial of degree 6.
[[nodiscard]] inline Vector<float> exp(const Vector<float>& x) {
  // Adding and subtracting 1.5 * 2^23 rounds to the nearest integer.
  constexpr float kRounder = 12582912.0f;
  const Vector<float> shifted = x * 1.44269504f + kRounder;
  const Vector<float> n = shifted - kRounder;
  Vector<float> r = x - n * 0.693359375f;
  r = r + n * 2.12194440e-4f;
  Vector<float> p = r * 1.9875691500e-4f + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  // 2^(n - 1) is normal on the whole range, 2^128 would not be.
  const auto bits = std::bit_cast<Vector<std::int32_t>>(shifted);
  const auto half = std::bit_cast<Vector<float>>((bits + 126) << 23);
  const Vector<float> value = p * half * 2.0f;
  const Vector<float> high =
      x > 88.7228317f ? broadcast(std::numeric_limits<float>::infinity())
                      : value;
  return x < -86.9f ? Vector<float>{} : high;
}

/// Exact to the library's rounding; for verification, not for speed.
[[nodiscard]] inline Vector<double> exp(const Vector<double>& x) {
  Vector<double> value = x;
  for (int lane = 0; lane < kLanes<double>; ++lane) {
    value[lane] = std::exp(value[lane]);
  }
  return value;
}

namespace internal {
/// Exchanges the off-diagonal blocks of two rows of blocks of kHalf lanes.
template <int kHalf, class V, int... kLane>
inline void exchange(V& upper, V& lower, std::integer_sequence<int, kLane...>) {
  constexpr int kWidth = sizeof...(kLane);
  const V first = __builtin_shufflevector(
      upper, lower, ((kLane & kHalf) ? kWidth + kLane - kHalf : kLane)...);
  lower = __builtin_shufflevector(
      upper, lower, ((kLane & kHalf) ? kWidth + kLane : kLane + kHalf)...);
  upper = first;
}

template <int kHalf, class T>
inline void transpose_steps(Vector<T>* rows) {
  if constexpr (kHalf > 0) {
    for (int i = 0; i < kLanes<T>; ++i) {
      if ((i & kHalf) == 0) {
        exchange<kHalf>(rows[i], rows[i + kHalf],
                        std::make_integer_sequence<int, kLanes<T>>());
      }
    }
    transpose_steps<kHalf / 2, T>(rows);
  }
}
}  // namespace internal

/// Transposes the square of kLanes<T> registers.
template <class T>
inline void transpose(Vector<T>* rows) {
  internal::transpose_steps<kLanes<T> / 2, T>(rows);
}

/// Memory that only grows, 64-byte aligned and not cleared; meant to be
/// thread_local, so that kernels allocate nothing after their first calls.
class Scratch {
 public:
  Scratch() = default;
  ~Scratch() { std::free(data_); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  /// `count` values of T; what was there before is lost.
  template <class T>
  [[nodiscard]] T* get(std::int64_t count) {
    reserve(static_cast<std::size_t>(count) * sizeof(T));
    return static_cast<T*>(data_);
  }

 private:
  void reserve(std::size_t bytes) {
    if (bytes <= bytes_) return;
    const std::size_t rounded = (bytes + bytes / 4 + 63) / 64 * 64;
    void* fresh = std::aligned_alloc(64, rounded);
    if (fresh == nullptr) throw std::bad_alloc();
    std::free(data_);
    data_ = fresh;
    bytes_ = rounded;
  }

  void* data_ = nullptr;
  std::size_t bytes_ = 0;
};

}  // namespace catena::cpu
