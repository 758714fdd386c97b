#include <algorithm>

#include "runtime/cpu/backend.h"
#include "runtime/cpu/matmul.h"
#include "runtime/cpu/micro_kernel.h"

namespace catena::cpu {
namespace {

// Packing b costs a piece about as much as ten of its rows; past 256 x 256 x
// 256 the operands no longer share a 1 MiB cache. Columns are cut the same way
// for any number of rows.
constexpr std::int64_t kMostRows = 256, kColumns = 256;
// Of operands with rows this short, twice as many fit.
constexpr std::int64_t kShortSum = 512;
constexpr std::int64_t kFewestRows = 64;
constexpr std::int64_t kPiecesPerThread = 2;
// About 20 microseconds of work; smaller pieces do not pay for a wake-up.
constexpr std::int64_t kLeastWork = 1 << 20;

std::int64_t offset(DType type, std::int64_t elements) {
  return elements * size_bytes(type);
}

}  // namespace

Product Product::part(std::int64_t row, std::int64_t rows, std::int64_t column,
                      std::int64_t columns) const {
  Product p = *this;
  p.m = rows;
  p.n = columns;
  p.a = static_cast<const char*>(a) +
        offset(type, transpose_a ? row : row * a_row);
  p.b = static_cast<const char*>(b) +
        offset(type, transpose_b ? column * b_row : column);
  p.c = static_cast<char*>(c) + offset(c_type, row * c_row + column);
  return p;
}

Tiling Tiling::choose(std::int64_t threads, std::int64_t count, std::int64_t m,
                      std::int64_t n, std::int64_t k) {
  Tiling t{k <= kShortSum ? 2 * kMostRows : kMostRows,
           std::clamp<std::int64_t>(n, 1, kColumns)};
  const auto pieces = [&] {
    return count * t.row_tiles(m) * t.column_tiles(n);
  };
  while (t.rows > kFewestRows && pieces() < kPiecesPerThread * threads &&
         t.rows * t.columns * k > kLeastWork) {
    t.rows /= 2;
  }
  return t;
}

std::int64_t Tiling::row_tiles(std::int64_t m) const {
  // Up to half a tile more makes no tile of its own.
  return m == 0 ? 0 : std::max<std::int64_t>(1, (m + rows / 2) / rows);
}

Product Tiling::piece(const Product& product, std::int64_t index) const {
  const std::int64_t across = column_tiles(product.n);
  const std::int64_t tiles = row_tiles(product.m);
  const std::int64_t height =
      ((product.m + tiles - 1) / tiles + kTileRows - 1) / kTileRows * kTileRows;
  const std::int64_t row = std::min(index / across * height, product.m);
  const std::int64_t column = index % across * columns;
  return product.part(row, std::min(height, product.m - row), column,
                      std::min(columns, product.n - column));
}

void CpuKernels::run(const Gemm& g) {
  const Product product{.m = g.c.size(0),
                        .n = g.c.size(1),
                        .k = g.a.size(g.transpose_a ? 0 : 1),
                        .a = g.a.data(),
                        .a_row = g.a.stride(0),
                        .b = g.b.data(),
                        .b_row = g.b.stride(0),
                        .c = g.c.data(),
                        .c_row = g.c.stride(0),
                        .type = g.a.dtype(),
                        .c_type = g.c.dtype(),
                        .transpose_a = g.transpose_a,
                        .transpose_b = g.transpose_b,
                        .accumulate = g.accumulate};
  const Tiling tiling =
      Tiling::choose(pool_.threads(), 1, product.m, product.n, product.k);
  const std::int64_t pieces =
      tiling.row_tiles(product.m) * tiling.column_tiles(product.n);
  pool_.run(pieces, [&](std::int64_t index, int) {
    multiply(tiling.piece(product, index));
  });
}

}  // namespace catena::cpu
