#pragma once

#include <immintrin.h>

#include "runtime/cpu/blocked_matmul.h"

/// Products of bfloat16 by the processor's own instruction (AVX512_BF16),
/// which takes two neighbouring terms of a sum at once. For the one file that
/// is compiled for it.
namespace catena::cpu {

template <>
struct Step<BFloat16> {
  static constexpr int kTerms = 2;
  static Vector<float> add(const Vector<float>& sum, const BFloat16* from,
                           const Vector<float>& right) {
    int pair;
    std::memcpy(&pair, from, sizeof(pair));
    return std::bit_cast<Vector<float>>(
        _mm512_dpbf16_ps(std::bit_cast<__m512>(sum),
                         std::bit_cast<__m512bh>(_mm512_set1_epi32(pair)),
                         std::bit_cast<__m512bh>(right)));
  }
};

namespace internal {

using Pairs = Vector<std::uint32_t>;

/// kLanes<float> values as the low halves of words, zero from `count` on.
inline Pairs load_halves(const BFloat16* from, std::int64_t count) {
  HalfVector half{};
  if (count >= kLanes<float>) {
    std::memcpy(&half, from, sizeof(half));
  } else if (count > 0) {
    std::memcpy(&half, from, static_cast<std::size_t>(count) * 2);
  }
  return __builtin_convertvector(half, Pairs);
}

/// A register of BFloat16.
typedef std::uint16_t FullVector __attribute__((vector_size(kVectorBytes)));

/// (first[i], second[i]) for the lower and the upper half of their lanes.
template <int... kLane>
inline void zip(const FullVector& first, const FullVector& second, BFloat16* to,
                std::integer_sequence<int, kLane...>) {
  constexpr int kWidth = sizeof...(kLane);
  const FullVector lower = __builtin_shufflevector(
      first, second, (kLane / 2 + kLane % 2 * kWidth)...);
  const FullVector upper = __builtin_shufflevector(
      first, second, (kWidth / 2 + kLane / 2 + kLane % 2 * kWidth)...);
  std::memcpy(to, &lower, sizeof(lower));
  std::memcpy(to + kWidth, &upper, sizeof(upper));
}

/// to[i] = (upper[i], lower[i]) for `columns` values, zeros up to `room`.
inline void interleave(const BFloat16* upper, const BFloat16* lower,
                       std::int64_t columns, std::int64_t room, BFloat16* to) {
  constexpr int kWidth = 2 * kLanes<float>;
  std::int64_t i = 0;
  for (; lower != nullptr && i + kWidth <= std::min(columns, room);
       i += kWidth) {
    FullVector first, second;
    std::memcpy(&first, upper + i, sizeof(first));
    std::memcpy(&second, lower + i, sizeof(second));
    zip(first, second, to + 2 * i, std::make_integer_sequence<int, kWidth>());
  }
  for (; i < room; i += kLanes<float>) {
    if (i >= columns) {
      std::memset(to + 2 * i, 0, sizeof(Pairs));
      continue;
    }
    Pairs pairs = load_halves(upper + i, columns - i);
    if (lower != nullptr) {
      pairs |= load_halves(lower + i, columns - i) << 16;
    }
    std::memcpy(to + 2 * i, &pairs, sizeof(pairs));
  }
}

/// `terms` values of each of kLanes<float> rows, zeros where there are fewer.
inline void load_square(const BFloat16* b, std::int64_t b_row,
                        std::int64_t rows, std::int64_t terms,
                        Vector<float>* square) {
  for (std::int64_t j = 0; j < kLanes<float>; ++j) {
    square[j] = Vector<float>{};
    if (j < rows) {
      std::memcpy(&square[j], b + j * b_row,
                  static_cast<std::size_t>(terms) * 2);
    }
  }
}

/// Terms beyond an odd depth are zero in both factors.
template <>
struct Packing<BFloat16, BFloat16> {
  /// panel[k] = pairs (b[2k][j], b[2k + 1][j]) of kTileColumns columns.
  static void plain(const BFloat16* b, std::int64_t b_row, std::int64_t depth,
                    std::int64_t columns, BFloat16* panel) {
    constexpr std::int64_t kRoom = kTileColumns<BFloat16>;
    for (std::int64_t k = 0; k < depth; k += 2, b += 2 * b_row) {
      interleave(b, k + 1 < depth ? b + b_row : nullptr, columns, kRoom, panel);
      panel += 2 * kRoom;
    }
  }

  /// As plain(), from [n, k]: pairs lie side by side there, so a square of
  /// words is transposed.
  static void transposed(const BFloat16* b, std::int64_t b_row,
                         std::int64_t depth, std::int64_t columns,
                         BFloat16* panel) {
    constexpr int kWidth = kLanes<float>;
    constexpr std::int64_t kRow = 2 * kTileColumns<BFloat16>;
    for (int v = 0; v < kTileVectors && v * kWidth < columns; ++v) {
      for (std::int64_t k = 0; k < depth; k += 2 * kWidth) {
        const std::int64_t terms =
            std::min<std::int64_t>(depth - k, 2 * kWidth);
        Vector<float> square[kWidth];
        if (terms == 2 * kWidth && (v + 1) * kWidth <= columns) {
#pragma GCC unroll 16
          for (int j = 0; j < kWidth; ++j) {
            std::memcpy(&square[j], b + (v * kWidth + j) * b_row + k,
                        sizeof(square[j]));
          }
        } else {
          load_square(b + v * kWidth * b_row + k, b_row, columns - v * kWidth,
                      terms, square);
        }
        transpose<float>(square);
        for (int t = 0; 2 * t < terms; ++t) {
          std::memcpy(panel + (k / 2 + t) * kRow + v * 2 * kWidth, &square[t],
                      sizeof(square[t]));
        }
      }
    }
  }

  static LeftFactor<BFloat16> left(const BFloat16* a, std::int64_t a_row,
                                   std::int64_t rows, std::int64_t depth,
                                   Scratch& scratch) {
    if (depth % 2 == 0 && !share_cache_sets<BFloat16>(a_row)) {
      return {a, a_row, 2};
    }
    const std::int64_t row = (depth + 1) / 2 * 2 + 32;
    BFloat16* const copy = scratch.get<BFloat16>(rows * row);
    for (std::int64_t i = 0; i < rows; ++i) {
      std::memcpy(copy + i * row, a + i * a_row,
                  static_cast<std::size_t>(depth) * 2);
      copy[i * row + depth] = BFloat16(0.0f);
    }
    return {copy, row, 2};
  }

  static LeftFactor<BFloat16> left_transposed(const BFloat16* a,
                                              std::int64_t a_row,
                                              std::int64_t rows,
                                              std::int64_t depth,
                                              Scratch& scratch) {
    const std::int64_t room = apart<float>(rows);
    BFloat16* const copy = scratch.get<BFloat16>((depth + 1) / 2 * 2 * room);
    for (std::int64_t k = 0; k < depth; k += 2, a += 2 * a_row) {
      interleave(a, k + 1 < depth ? a + a_row : nullptr, rows, room,
                 copy + k * room);
    }
    return {copy, 2, 2 * room};
  }
};

}  // namespace internal
}  // namespace catena::cpu
