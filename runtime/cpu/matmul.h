#pragma once

#include <cstdint>

#include "runtime/cpu/thread_pool.h"
#include "runtime/dtype.h"
#include "runtime/tensor.h"

namespace catena::cpu {

/// One product: c = op(a) op(b), or c += op(a) op(b); rows lie *_row elements
/// apart. Sums as in kernel.h; c is of `type` or of wide(type).
///   a [m, k], or [k, m] if transpose_a;  b [k, n], or [n, k] if transpose_b
///   c [m, n]
struct Product {
  std::int64_t m = 0, n = 0, k = 0;
  const void* a = nullptr;
  std::int64_t a_row = 0;
  const void* b = nullptr;
  std::int64_t b_row = 0;
  void* c = nullptr;
  std::int64_t c_row = 0;
  DType type = DType::kFloat32, c_type = DType::kFloat32;
  bool transpose_a = false, transpose_b = false, accumulate = false;

  /// The part that computes `rows` x `columns` of c from (row, column) on.
  [[nodiscard]] Product part(std::int64_t row, std::int64_t rows,
                             std::int64_t column, std::int64_t columns) const;
};

/// Computes a product in the calling thread, by register-blocked loops. The
/// sum of an element is one chain of multiply-adds over k ascending (over
/// pairs of neighbouring k where bfloat16 is multiplied natively), so that the
/// bits of a row of c do not depend on the other rows that are computed with
/// it, nor on m.
/// Thread rule: any thread; allocates only until its buffers have grown.
void multiply(const Product& product);

/// As multiply(), with bfloat16 widened even where the processor multiplies
/// it. For tests.
void multiply_portably(const Product& product);

/// This build and this processor multiply bfloat16 natively, which is about
/// twice as fast as float32.
[[nodiscard]] bool multiplies_bfloat16();
/// multiply() of bfloat16 operands, only where multiplies_bfloat16().
void multiply_bfloat16(const Product& product);

/// How products with these lengths are cut into pieces for a pool; no bit of a
/// result depends on it. `rows` is the height aimed at; all tiles of a product
/// are about as high.
struct Tiling {
  std::int64_t rows, columns;

  /// For `count` products of up to m x n, sums of k terms.
  [[nodiscard]] static Tiling choose(std::int64_t threads, std::int64_t count,
                                     std::int64_t m, std::int64_t n,
                                     std::int64_t k);
  [[nodiscard]] std::int64_t row_tiles(std::int64_t m) const;
  [[nodiscard]] std::int64_t column_tiles(std::int64_t n) const {
    return (n + columns - 1) / columns;
  }
  /// The part of a product that is its piece `index`, columns within rows.
  [[nodiscard]] Product piece(const Product& product, std::int64_t index) const;
};

}  // namespace catena::cpu
