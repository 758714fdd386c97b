#pragma once

#include <algorithm>
#include <cstdint>

#include "runtime/cpu/matmul.h"
#include "runtime/cpu/micro_kernel.h"

namespace catena::cpu {

namespace internal {

/// Terms of a sum taken at once, so that a packed panel of b and the rows of a
/// beside it stay in a near cache: all of a short sum, which then needs no
/// partial sums in memory.
template <class O>
[[nodiscard]] constexpr std::int64_t depth_of(std::int64_t terms) {
  constexpr auto kSize = static_cast<std::int64_t>(sizeof(O));
  return terms <= 1536 / kSize ? terms : 512 / kSize;
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

/// Rows of T at this distance lie in the same few sets of a cache.
template <class T>
[[nodiscard]] constexpr bool share_cache_sets(std::int64_t row) {
  return row * static_cast<std::int64_t>(sizeof(T)) % 4096 == 0;
}

/// How operands of storage type T become those of Step<O>. O is Wide<T>, or
/// another type for which this is specialised.
template <class T, class O>
struct Packing {
  static_assert(std::is_same_v<O, Wide<T>>);

  /// panel[k] = b[k][0 .. kTileColumns), for `depth` rows of the row-major
  /// [k, n] matrix at b; columns from `columns` on are 0.
  static void plain(const T* b, std::int64_t b_row, std::int64_t depth,
                    std::int64_t columns, O* panel) {
    for (std::int64_t k = 0; k < depth; ++k, b += b_row) {
      for (int v = 0; v < kTileVectors; ++v, panel += kLanes<O>) {
        store(panel, load(b + v * kLanes<O>, columns - v * kLanes<O>));
      }
    }
  }

  /// As plain(), from the row-major [n, k] matrix at b.
  static void transposed(const T* b, std::int64_t b_row, std::int64_t depth,
                         std::int64_t columns, O* panel) {
    constexpr int kWidth = kLanes<O>;
    for (int v = 0; v < kTileVectors && v * kWidth < columns; ++v) {
      for (std::int64_t k = 0; k < depth; k += kWidth) {
        const std::int64_t terms = std::min<std::int64_t>(depth - k, kWidth);
        Vector<O> square[kWidth];
        for (int j = 0; j < kWidth; ++j) {
          const std::int64_t column = v * kWidth + j;
          square[j] = column < columns ? load(b + column * b_row + k, terms)
                                       : Vector<O>{};
        }
        transpose<O>(square);
        for (int t = 0; t < terms; ++t) {
          store(panel + (k + t) * kTileColumns<O> + v * kWidth, square[t]);
        }
      }
    }
  }

  /// The left factor from rows of `depth` terms each. Narrow rows are widened;
  /// rows whose distance would put them into the same few cache sets are
  /// copied apart.
  static LeftFactor<O> left(const T* a, std::int64_t a_row, std::int64_t rows,
                            std::int64_t depth, Scratch& scratch) {
    if constexpr (std::is_same_v<T, O>) {
      if (!share_cache_sets<T>(a_row)) return {a, a_row, 1};
    }
    return copied(a, a_row, rows, depth, scratch);
  }

  /// The left factor from `depth` rows of `rows` terms each, which are read
  /// several times: a copy is read in order once.
  static LeftFactor<O> left_transposed(const T* a, std::int64_t a_row,
                                       std::int64_t rows, std::int64_t depth,
                                       Scratch& scratch) {
    const LeftFactor<O> turned = copied(a, a_row, depth, rows, scratch);
    return {turned.data, 1, turned.row};
  }

 private:
  static LeftFactor<O> copied(const T* a, std::int64_t a_row, std::int64_t rows,
                              std::int64_t columns, Scratch& scratch) {
    const std::int64_t row = apart<O>(columns);
    O* const copy = scratch.get<O>(rows * row);
    widen_rows(a, a_row, rows, columns, copy, row);
    return {copy, row, 1};
  }
};

/// A product of storage type T, formed in steps of operands O.
template <class T, class O = Wide<T>>
class BlockedProduct {
 public:
  using W = Wide<T>;

  explicit BlockedProduct(const Product& p)
      : p_(p), depth_(std::max<std::int64_t>(depth_of<O>(p.k), 1)) {}

  void run() const {
    if (p_.c_type == DTypeOf<W>::value) {
      return run_into(static_cast<W*>(p_.c), p_.c_row);
    }
    T* const c = static_cast<T*>(p_.c);
    // Partial sums are not rounded.
    if (p_.k <= depth_) return run_into(c, p_.c_row);
    thread_local Scratch scratch;
    const std::int64_t row = apart<W>(p_.n);
    W* const sums = scratch.get<W>(p_.m * row);
    if (p_.accumulate) widen_rows(c, p_.c_row, p_.m, p_.n, sums, row);
    run_into(sums, row);
    narrow_rows(sums, row, p_.m, p_.n, c, p_.c_row);
  }

 private:
  static constexpr int kTerms = Step<O>::kTerms;

  template <class C>
  void run_into(C* c, std::int64_t c_row) const {
    thread_local Scratch left, right;
    O* const panel = right.get<O>((depth_ + 1) * kTileColumns<O>);
    if (p_.k == 0 && !p_.accumulate) {
      for (std::int64_t i = 0; i < p_.m; ++i) {
        std::fill_n(c + i * c_row, p_.n, C{});
      }
    }
    for (std::int64_t k = 0; k < p_.k; k += depth_) {
      const std::int64_t depth = std::min(p_.k - k, depth_);
      const LeftFactor<O> a = left_factor(k, depth, left);
      for (std::int64_t j = 0; j < p_.n; j += kTileColumns<O>) {
        const std::int64_t columns =
            std::min<std::int64_t>(p_.n - j, kTileColumns<O>);
        pack(k, depth, j, columns, panel);
        multiply_block(p_.m, columns, (depth + kTerms - 1) / kTerms, a, panel,
                       kTileColumns<O> * kTerms, c + j, c_row,
                       p_.accumulate || k > 0, ahead(k, depth, j));
      }
    }
  }

  void pack(std::int64_t k, std::int64_t depth, std::int64_t j,
            std::int64_t columns, O* panel) const {
    const T* const b = static_cast<const T*>(p_.b);
    if (p_.transpose_b) {
      Packing<T, O>::transposed(b + j * p_.b_row + k, p_.b_row, depth, columns,
                                panel);
    } else {
      Packing<T, O>::plain(b + k * p_.b_row + j, p_.b_row, depth, columns,
                           panel);
    }
  }

  /// What comes after b's panel at (k, j): the next panel and, of the next
  /// terms of a, this panel's share.
  Ahead ahead(std::int64_t k, std::int64_t depth, std::int64_t j) const {
    const std::int64_t next_k = k + depth;
    const std::int64_t next_depth = std::min(p_.k - next_k, depth_);
    if (j + kTileColumns<O> < p_.n) {
      return {panel_at(k, depth, j + kTileColumns<O>),
              share_of_left(next_k, next_depth, j)};
    }
    if (next_depth <= 0) return {};
    return {panel_at(next_k, next_depth, 0),
            share_of_left(next_k, next_depth, j)};
  }

  Ahead::Rectangle panel_at(std::int64_t k, std::int64_t depth,
                            std::int64_t j) const {
    const std::int64_t columns =
        std::min<std::int64_t>(p_.n - j, kTileColumns<O>);
    const T* const b = static_cast<const T*>(p_.b);
    constexpr std::int64_t kBytes = sizeof(T);
    if (p_.transpose_b) {
      return {b + j * p_.b_row + k, p_.b_row * kBytes, columns, depth * kBytes};
    }
    return {b + k * p_.b_row + j, p_.b_row * kBytes, depth, columns * kBytes};
  }

  Ahead::Rectangle share_of_left(std::int64_t k, std::int64_t depth,
                                 std::int64_t j) const {
    if (depth <= 0) return {};
    const std::int64_t rows = p_.transpose_a ? depth : p_.m;
    const std::int64_t panels = (p_.n + kTileColumns<O> - 1) / kTileColumns<O>;
    const std::int64_t panel = j / kTileColumns<O>;
    const std::int64_t begin = rows * panel / panels;
    const std::int64_t end = rows * (panel + 1) / panels;
    const T* const a = static_cast<const T*>(p_.a) +
                       (p_.transpose_a ? k : 0) * p_.a_row +
                       (p_.transpose_a ? 0 : k);
    constexpr std::int64_t kBytes = sizeof(T);
    return {a + begin * p_.a_row, p_.a_row * kBytes, end - begin,
            (p_.transpose_a ? p_.m : depth) * kBytes};
  }

  LeftFactor<O> left_factor(std::int64_t k, std::int64_t depth,
                            Scratch& scratch) const {
    const T* const a = static_cast<const T*>(p_.a);
    if (p_.transpose_a) {
      return Packing<T, O>::left_transposed(a + k * p_.a_row, p_.a_row, p_.m,
                                            depth, scratch);
    }
    return Packing<T, O>::left(a + k, p_.a_row, p_.m, depth, scratch);
  }

  Product p_;
  std::int64_t depth_;
};

}  // namespace internal
}  // namespace catena::cpu
