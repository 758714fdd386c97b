#pragma once

#include <algorithm>
#include <cstdint>

#include "runtime/cpu/blocked_matmul.h"
#include "runtime/cpu/vector.h"
#include "runtime/tensor.h"

namespace catena::cpu {

/// Queries and keys of one square of scores; a square in float fills a third
/// of a 48 KiB cache.
inline constexpr std::int64_t kAttentionTile = 64;

/// One head of a [rows, heads, size] tensor.
template <class T>
struct Head {
  T* data;
  std::int64_t row, size;

  Head(const TensorView& tensor, std::int64_t head)
      : data(tensor.as<T>() + head * tensor.stride(1)),
        row(tensor.stride(0)),
        size(tensor.size(2)) {}
  [[nodiscard]] T* at(std::int64_t index) const { return data + index * row; }
};

/// Row length of a tile with `size` columns, in whole vectors.
template <class W>
[[nodiscard]] constexpr std::int64_t tile_row(std::int64_t size) {
  return (size + kLanes<W> - 1) / kLanes<W> * kLanes<W>;
}

/// tile[i] = head[begin + i], widened, rows tile_row(size) apart.
template <class T>
void load_tile(const Head<T>& head, std::int64_t begin, std::int64_t count,
               Wide<T>* tile) {
  internal::widen_rows(head.at(begin), head.row, count, head.size, tile,
                       tile_row<Wide<T>>(head.size));
}

/// tile[c][i] = head[begin + i][c], widened: one row of kAttentionTile for
/// every channel; entries from `count` on are 0.
template <class T>
void load_transposed(const Head<T>& head, std::int64_t begin,
                     std::int64_t count, Wide<T>* tile) {
  using W = Wide<T>;
  constexpr int kWidth = kLanes<W>;
  for (std::int64_t i = 0; i < kAttentionTile; i += kWidth) {
    for (std::int64_t c = 0; c < head.size; c += kWidth) {
      Vector<W> square[kWidth];
      for (int l = 0; l < kWidth; ++l) {
        square[l] = i + l < count
                        ? load(head.at(begin + i + l) + c, head.size - c)
                        : Vector<W>{};
      }
      transpose<W>(square);
      const std::int64_t channels =
          std::min<std::int64_t>(head.size - c, kWidth);
      for (int l = 0; l < channels; ++l) {
        store(tile + (c + l) * kAttentionTile + i, square[l]);
      }
    }
  }
}

/// Scores of one tile of queries against one of keys, or any other such
/// square: out[i][j] = sum_c left[i][c] transposed[c][j], `rows` rows of
/// kAttentionTile.
///   left: as load_tile gives it;  transposed: as load_transposed gives it
template <class W>
void multiply_square(std::int64_t rows, std::int64_t columns, std::int64_t size,
                     const W* left, const W* transposed, W* out) {
  multiply_block(rows, columns, size, LeftFactor<W>{left, tile_row<W>(size), 1},
                 transposed, kAttentionTile, out, kAttentionTile, false);
}

/// out[j] += sum_i square[i][j] right[i]: rows of out and right are
/// tile_row(size) apart, `depth` rows of the square are summed over.
template <class W>
void add_transposed_product(std::int64_t rows, std::int64_t size,
                            std::int64_t depth, const W* square, const W* right,
                            W* out) {
  multiply_block(rows, size, depth, LeftFactor<W>{square, 1, kAttentionTile},
                 right, tile_row<W>(size), out, tile_row<W>(size), true);
}

}  // namespace catena::cpu
