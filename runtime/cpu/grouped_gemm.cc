#include <algorithm>
#include <vector>

#include "runtime/cpu/backend.h"
#include "runtime/cpu/matmul.h"

namespace catena::cpu {
namespace {

/// The tiles of all groups as one list, so that one run of the pool takes
/// them: entry g is the number of tiles before group g. One per calling
/// thread; it grows only.
std::vector<std::int64_t>& tile_list(std::int64_t groups) {
  thread_local std::vector<std::int64_t> before;
  before.assign(static_cast<std::size_t>(groups) + 1, 0);
  return before;
}

/// The group that tile `index` belongs to.
std::int64_t group_of(const std::vector<std::int64_t>& before,
                      std::int64_t index) {
  return std::upper_bound(before.begin(), before.end(), index) -
         before.begin() - 1;
}

}  // namespace

void CpuKernels::run(const GroupedGemm& g) {
  const std::int32_t* const offsets = g.offsets.as<std::int32_t>();
  const std::int64_t groups = g.offsets.size(0) - 1;
  const std::int64_t rows = g.a.size(0), k = g.a.size(1), n = g.c.size(1);
  if (groups == 0 || rows == 0) return;
  const Tiling tiling = Tiling::choose(pool_.threads(), groups,
                                       (rows + groups - 1) / groups, n, k);
  std::vector<std::int64_t>& before = tile_list(groups);
  for (std::int64_t group = 0; group < groups; ++group) {
    const auto at = static_cast<std::size_t>(group);
    before[at + 1] =
        before[at] + tiling.row_tiles(offsets[group + 1] - offsets[group]) *
                         tiling.column_tiles(n);
  }
  pool_.run(before.back(), [&](std::int64_t index, int) {
    const std::int64_t group = group_of(before, index);
    const std::int64_t first = offsets[group];
    const TensorView b = g.b.at(group);
    const Product product{
        .m = offsets[group + 1] - first,
        .n = n,
        .k = k,
        .a = g.a.slice(0, first, 0).data(),
        .a_row = g.a.stride(0),
        .b = b.data(),
        .b_row = b.stride(0),
        .c = g.c.slice(0, first, 0).data(),
        .c_row = g.c.stride(0),
        .type = g.a.dtype(),
        .c_type = g.c.dtype(),
        .transpose_b = g.transpose_b,
    };
    multiply(
        tiling.piece(product, index - before[static_cast<std::size_t>(group)]));
  });
}

void CpuKernels::run(const GroupedGemmGradient& g) {
  const std::int64_t groups = g.c.size(0), m = g.c.size(1), n = g.c.size(2);
  std::int64_t rows = 0;
  for (const GroupedGemmGradient::Part& part : g.parts) rows += part.a.size(0);
  if (groups == 0 || rows == 0) return;
  const Tiling tiling = Tiling::choose(pool_.threads(), groups, m, n,
                                       (rows + groups - 1) / groups);
  const std::int64_t tiles = tiling.row_tiles(m) * tiling.column_tiles(n);
  pool_.run(groups * tiles, [&](std::int64_t index, int) {
    const TensorView c = g.c.at(index / tiles);
    for (const auto& [a, b, row_offsets] : g.parts) {
      const auto* offsets = row_offsets.as<std::int32_t>() + index / tiles;
      if (offsets[0] == offsets[1]) continue;
      const Product product{
          .m = m,
          .n = n,
          .k = offsets[1] - offsets[0],
          .a = a.slice(0, offsets[0], 0).data(),
          .a_row = a.stride(0),
          .b = b.slice(0, offsets[0], 0).data(),
          .b_row = b.stride(0),
          .c = c.data(),
          .c_row = c.stride(0),
          .type = a.dtype(),
          .c_type = g.c.dtype(),
          .transpose_a = true,
          .accumulate = true,
      };
      multiply(tiling.piece(product, index % tiles));
    }
  });
}

}  // namespace catena::cpu
