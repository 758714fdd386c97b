#pragma once

#include <algorithm>
#include <cstdint>

#include "runtime/cpu/matmul.h"
#include "runtime/cpu/micro_kernel.h"

namespace catena::cpu {

namespace internal {

/// Terms of a sum taken at once: a packed panel of b stays in a near cache.
inline constexpr std::int64_t kDepth = 256;

/// panel[k] = b[k][0 .. kTileColumns), for `depth` rows of the row-major
/// [k, n] matrix at b; columns from `columns` on are 0.
template <class T>
void pack_plain(const T* b, std::int64_t b_row, std::int64_t depth,
                std::int64_t columns, Wide<T>* panel) {
  using W = Wide<T>;
  for (std::int64_t k = 0; k < depth; ++k, b += b_row) {
    for (int v = 0; v < kTileVectors; ++v, panel += kLanes<W>) {
      store(panel, load(b + v * kLanes<W>, columns - v * kLanes<W>));
    }
  }
}

/// As pack_plain, from the row-major [n, k] matrix at b.
template <class T>
void pack_transposed(const T* b, std::int64_t b_row, std::int64_t depth,
                     std::int64_t columns, Wide<T>* panel) {
  using W = Wide<T>;
  constexpr int kWidth = kLanes<W>;
  for (int v = 0; v < kTileVectors && v * kWidth < columns; ++v) {
    for (std::int64_t k = 0; k < depth; k += kWidth) {
      const std::int64_t terms = std::min<std::int64_t>(depth - k, kWidth);
      Vector<W> square[kWidth];
      for (int j = 0; j < kWidth; ++j) {
        const std::int64_t column = v * kWidth + j;
        square[j] = column < columns ? load(b + column * b_row + k, terms)
                                     : Vector<W>{};
      }
      transpose<W>(square);
      for (int t = 0; t < terms; ++t) {
        store(panel + (k + t) * kTileColumns<W> + v * kWidth, square[t]);
      }
    }
  }
}

/// to[i] = from[i] for rows of `columns`, read as Wide<T>. Rows of `to` have
/// room for whole vectors; what is left of the last one is 0.
template <class T>
void widen_rows(const T* from, std::int64_t from_row, std::int64_t rows,
                std::int64_t columns, Wide<T>* to, std::int64_t to_row) {
  constexpr int kWidth = kLanes<Wide<T>>;
  for (std::int64_t i = 0; i < rows; ++i) {
    for (std::int64_t j = 0; j < columns; j += kWidth) {
      store(to + i * to_row + j, load(from + i * from_row + j, columns - j));
    }
  }
}

/// to[i] = from[i], rounded to T. Rows of `from` have room for whole vectors.
template <class T>
void narrow_rows(const Wide<T>* from, std::int64_t from_row, std::int64_t rows,
                 std::int64_t columns, T* to, std::int64_t to_row) {
  constexpr int kWidth = kLanes<Wide<T>>;
  for (std::int64_t i = 0; i < rows; ++i) {
    for (std::int64_t j = 0; j < columns; j += kWidth) {
      store(to + i * to_row + j, load(from + i * from_row + j), columns - j);
    }
  }
}

/// The least multiple of whole vectors that holds `columns` and keeps rows
/// out of each other's cache sets.
template <class W>
[[nodiscard]] constexpr std::int64_t apart(std::int64_t columns) {
  return (columns + kLanes<W> - 1) / kLanes<W> * kLanes<W> + kLanes<W>;
}

template <class T>
class BlockedProduct {
 public:
  using W = Wide<T>;

  explicit BlockedProduct(const Product& p) : p_(p) {}

  void run() const {
    if (p_.c_type == DTypeOf<W>::value) {
      return run_into(static_cast<W*>(p_.c), p_.c_row);
    }
    thread_local Scratch scratch;
    const std::int64_t row = apart<W>(p_.n);
    W* const sums = scratch.get<W>(p_.m * row);
    T* const c = static_cast<T*>(p_.c);
    if (p_.accumulate) widen_rows(c, p_.c_row, p_.m, p_.n, sums, row);
    run_into(sums, row);
    narrow_rows(sums, row, p_.m, p_.n, c, p_.c_row);
  }

 private:
  void run_into(W* c, std::int64_t c_row) const {
    thread_local Scratch left, right;
    W* const panel = right.get<W>(kDepth * kTileColumns<W>);
    // k = 0 clears c if there is nothing to sum.
    for (std::int64_t k = 0; k < p_.k || k == 0; k += kDepth) {
      const std::int64_t depth = std::min(p_.k - k, kDepth);
      const LeftFactor<W> a = left_factor(k, depth, left);
      for (std::int64_t j = 0; j < p_.n; j += kTileColumns<W>) {
        const std::int64_t columns =
            std::min<std::int64_t>(p_.n - j, kTileColumns<W>);
        pack(k, depth, j, columns, panel);
        multiply_block<W>(p_.m, columns, depth, a, panel, kTileColumns<W>,
                          c + j, c_row, p_.accumulate || k > 0);
      }
    }
  }

  void pack(std::int64_t k, std::int64_t depth, std::int64_t j,
            std::int64_t columns, W* panel) const {
    const T* const b = static_cast<const T*>(p_.b);
    if (p_.transpose_b) {
      pack_transposed(b + j * p_.b_row + k, p_.b_row, depth, columns, panel);
    } else {
      pack_plain(b + k * p_.b_row + j, p_.b_row, depth, columns, panel);
    }
  }

  // Narrow rows are widened; rows whose distance would put them into the same
  // few cache sets are copied apart.
  LeftFactor<W> left_factor(std::int64_t k, std::int64_t depth,
                            Scratch& scratch) const {
    const T* const a =
        static_cast<const T*>(p_.a) + (p_.transpose_a ? k * p_.a_row : k);
    if constexpr (std::is_same_v<T, W>) {
      if (p_.a_row * sizeof(T) % 1024 != 0) return factor(a, p_.a_row);
    }
    const std::int64_t rows = p_.transpose_a ? depth : p_.m;
    const std::int64_t columns = p_.transpose_a ? p_.m : depth;
    const std::int64_t row = apart<W>(columns);
    W* const copy = scratch.get<W>(rows * row);
    widen_rows(a, p_.a_row, rows, columns, copy, row);
    return factor(copy, row);
  }
  LeftFactor<W> factor(const W* data, std::int64_t row) const {
    return p_.transpose_a ? LeftFactor<W>{data, 1, row}
                          : LeftFactor<W>{data, row, 1};
  }

  Product p_;
};

}  // namespace internal

/// multiply() by register-blocked loops: any type, any processor. The sum of
/// an element is one chain of multiply-adds over k ascending.
inline void blocked_multiply(const Product& product) {
  switch (product.type) {
    case DType::kFloat32:
      return internal::BlockedProduct<float>(product).run();
    case DType::kBFloat16:
      return internal::BlockedProduct<BFloat16>(product).run();
    case DType::kFloat64:
      return internal::BlockedProduct<double>(product).run();
    case DType::kInt32:
    case DType::kInt64:
      break;
  }
  fail(ErrorKind::kInvalidArgument, "[matmul] no product of {}",
       name(product.type));
}

}  // namespace catena::cpu
