#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "runtime/cpu/vector.h"

namespace catena::cpu {

/// One register tile is kTileRows rows of kTileVectors registers:
/// accumulators and operands together fill the registers there are.
inline constexpr int kTileRows = 6;
inline constexpr int kTileVectors = kVectorBytes == 64 ? 4 : 2;
template <class T>
inline constexpr int kTileColumns = kTileVectors* kLanes<Wide<T>>;

/// One step of a sum: what an element of the left factor, which `from` points
/// at, adds to a register of sums. Specialised where a step takes several
/// terms at once (kTerms, which then lie side by side in both factors).
template <class T>
struct Step {
  static constexpr int kTerms = 1;
  static Vector<T> add(const Vector<T>& sum, const T* from,
                       const Vector<T>& right) {
    return sum + *from * right;
  }
};

/// The left factor of a product: step k of row i begins at
/// data[i * row + k * step].
template <class T>
struct LeftFactor {
  const T* data;
  std::int64_t row, step;
};

/// Rectangles of memory that will be needed soon, one after another: touch()
/// fetches their next cache line. Without rows it does nothing.
class Ahead {
 public:
  struct Rectangle {
    const void* data = nullptr;
    std::int64_t row_bytes = 0, rows = 0, bytes = 0;
  };

  Ahead() = default;
  Ahead(const Rectangle& first, const Rectangle& second) : then_(second) {
    begin(first);
    if (rows_ <= 0) next();
  }
  void touch() {
    if (rows_ <= 0) return;
    __builtin_prefetch(line_, 0, 2);
    line_ += kLine;
    if (line_ < end_) return;
    line_ = end_ + skip_;
    end_ = line_ + bytes_;
    if (--rows_ == 0) next();
  }

 private:
  static constexpr std::int64_t kLine = 64;

  void begin(const Rectangle& r) {
    line_ = static_cast<const char*>(r.data);
    end_ = line_ + r.bytes;
    skip_ = r.row_bytes - r.bytes;
    bytes_ = r.bytes;
    rows_ = r.rows;
  }
  void next() {
    begin(then_);
    then_ = {};
  }

  const char* line_ = nullptr;
  const char* end_ = nullptr;
  std::int64_t skip_ = 0, bytes_ = 0, rows_ = 0;
  Rectangle then_;
};

namespace internal {

/// Lines of what comes after a block that are fetched in every stride.
inline constexpr int kFetches = 3;

/// Steps between prefetches: one row of a left factor then moves by a line.
template <class T>
inline constexpr std::int64_t kStride =
    64 / static_cast<std::int64_t>(sizeof(T)) / Step<T>::kTerms;

template <class T, class C>
struct TileCall {
  std::int64_t steps;
  LeftFactor<T> a;
  const T* b;
  std::int64_t b_row;
  C* c;
  std::int64_t c_row;
  std::int64_t tail;  ///< columns in the last vector of c
  bool accumulate;
  bool more;     ///< another tile of as many rows may follow below
  Ahead* ahead;  ///< what comes after all tiles of this block
};

template <class T, class C, int kRows, int kVectors>
[[gnu::noinline]] void multiply_tile(const TileCall<T, C>& call) {
  using W = Wide<T>;
  constexpr int kOperand = kLanes<W> * Step<T>::kTerms;
  const auto place = [&](int i, int v) {
    return call.c + i * call.c_row + v * kLanes<W>;
  };
  const auto width = [&](int v) {
    return v + 1 == kVectors ? call.tail : kLanes<W>;
  };
  Vector<W> sums[kRows][kVectors];
#pragma GCC unroll 6
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      sums[i][v] = call.accumulate ? load(place(i, v), width(v)) : Vector<W>{};
    }
  }
  const T* left = call.a.data;
  const T* b = call.b;
  const std::int64_t row = call.a.row;
  std::int64_t next = 0;  // row of the next tile's results to fetch
  for (std::int64_t begin = 0; begin < call.steps; begin += kStride<T>) {
    if (call.more) {
      for (int i = 0; i < kRows; ++i) {
        __builtin_prefetch(left + (kRows + i) * row, 0, 3);
      }
      for (int i = 0; i < 2 && next < kRows; ++i, ++next) {
        for (int v = 0; v < kVectors; ++v) {
          __builtin_prefetch(
              call.c + (kRows + next) * call.c_row + v * kLanes<W>, 1, 3);
        }
      }
    }
    for (int line = 0; line < kFetches; ++line) call.ahead->touch();
    const std::int64_t end = std::min(begin + kStride<T>, call.steps);
    for (std::int64_t k = begin; k < end; ++k) {
      Vector<W> right[kVectors];
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) {
        std::memcpy(&right[v], b + v * kOperand, sizeof(Vector<W>));
      }
#pragma GCC unroll 6
      for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) {
          sums[i][v] = Step<T>::add(sums[i][v], left + i * row, right[v]);
        }
      }
      left += call.a.step;
      b += call.b_row;
    }
  }
#pragma GCC unroll 6
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) store(place(i, v), sums[i][v], width(v));
  }
}

// The next two find the instance for a tile of `rows` x `vectors`.
template <class T, class C, int kRows, int kVectors>
inline void multiply_rows(std::int64_t rows, const TileCall<T, C>& call) {
  if (rows == kRows) return multiply_tile<T, C, kRows, kVectors>(call);
  if constexpr (kRows > 1) {
    multiply_rows<T, C, kRows - 1, kVectors>(rows, call);
  }
}

template <class T, class C, int kVectors>
inline void multiply_columns(std::int64_t rows, std::int64_t vectors,
                             const TileCall<T, C>& call) {
  if (vectors == kVectors) {
    return multiply_rows<T, C, kTileRows, kVectors>(rows, call);
  }
  if constexpr (kVectors > 1) {
    multiply_columns<T, C, kVectors - 1>(rows, vectors, call);
  }
}

}  // namespace internal

/// c = a b, or c += a b, in one thread. Every element of c is one chain of
/// steps over k ascending, whatever m and n are; it begins at c or 0.
///   a: as LeftFactor says;  b [steps, n * kTerms], rows b_row apart and
///   readable up to whole vectors;  c [m, n] of C, to which sums are rounded,
///   rows c_row apart;  ahead: fetched meanwhile, as far as time allows
template <class T, class C>
void multiply_block(std::int64_t m, std::int64_t n, std::int64_t steps,
                    const LeftFactor<T>& a, const T* b, std::int64_t b_row,
                    C* c, std::int64_t c_row, bool accumulate,
                    Ahead ahead = {}) {
  constexpr int kWidth = kLanes<Wide<T>>;
  for (std::int64_t j = 0; j < n; j += kTileColumns<T>) {
    const std::int64_t columns = std::min<std::int64_t>(n - j, kTileColumns<T>);
    const std::int64_t vectors = (columns + kWidth - 1) / kWidth;
    const std::int64_t tail = columns - (vectors - 1) * kWidth;
    for (std::int64_t i = 0; i < m; i += kTileRows) {
      internal::multiply_columns<T, C, kTileVectors>(
          std::min<std::int64_t>(m - i, kTileRows), vectors,
          {steps,
           {a.data + i * a.row, a.row, a.step},
           b + j * Step<T>::kTerms,
           b_row,
           c + i * c_row + j,
           c_row,
           tail,
           accumulate,
           i + 2 * kTileRows <= m,
           &ahead});
    }
  }
}

}  // namespace catena::cpu
