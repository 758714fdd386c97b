#include <algorithm>
#include <cmath>

#include "runtime/cpu/backend.h"
#include "runtime/cpu/rows.h"

namespace catena::cpu {
namespace {

/// x += residual, rounded.
template <class T>
void add_residual(const T* residual, std::int64_t columns, T* x) {
  using W = Wide<T>;
  for (std::int64_t c = 0; c < columns; c += kLanes<W>) {
    const std::int64_t left = columns - c;
    store(x + c, load(x + c, left) + load(residual + c, left), left);
  }
}

template <class T>
void normalize_row(const T* x, const Wide<T>* weight, std::int64_t columns,
                   double epsilon, T* out, Wide<T>* inverse_rms) {
  using W = Wide<T>;
  W values[kRun];
  LaneSum<W> squares;
  for_runs(columns, [&](std::int64_t begin, std::int64_t count) {
    convert(x + begin, values, count);
    squares.add(count, [&](std::int64_t c) { return values[c] * values[c]; });
  });
  const W mean = squares.total() / static_cast<W>(columns);
  const W inverse = W{1} / std::sqrt(mean + static_cast<W>(epsilon));
  *inverse_rms = inverse;
  for_runs(columns, [&](std::int64_t begin, std::int64_t count) {
    convert(x + begin, values, count);
    for (std::int64_t c = 0; c < count; ++c) {
      values[c] = values[c] * inverse * weight[begin + c];
    }
    convert(values, out + begin, count);
  });
}

/// One row of RmsNormGradient; d_weight is a partial sum.
template <class T>
struct RowGradient {
  using W = Wide<T>;
  const T* d_out;
  const T* x;
  const W* weight;
  W inverse;
  T* d_x;
  W* d_weight;
  bool accumulate;

  W g[kRun], n[kRun], old[kRun];

  /// Leaves d_out in g and x * inverse in n.
  void load(std::int64_t begin, std::int64_t count) {
    convert(d_out + begin, g, count);
    convert(x + begin, n, count);
    for (std::int64_t c = 0; c < count; ++c) n[c] *= inverse;
  }

  void run(std::int64_t columns) {
    LaneSum<W> products;
    for_runs(columns, [&](std::int64_t begin, std::int64_t count) {
      load(begin, count);
      products.add(count, [&](std::int64_t c) {
        return g[c] * weight[begin + c] * n[c];
      });
      for (std::int64_t c = 0; c < count; ++c) {
        d_weight[begin + c] += g[c] * n[c];
      }
    });
    const W mean = products.total() / static_cast<W>(columns);
    for_runs(columns, [&](std::int64_t begin, std::int64_t count) {
      load(begin, count);
      for (std::int64_t c = 0; c < count; ++c) {
        g[c] = inverse * (g[c] * weight[begin + c] - n[c] * mean);
      }
      if (accumulate) {
        convert(d_x + begin, old, count);
        for (std::int64_t c = 0; c < count; ++c) g[c] += old[c];
      }
      convert(g, d_x + begin, count);
    });
  }
};

/// Rows whose part of d_weight is summed in one piece: at most 64 pieces.
std::int64_t rows_per_part(std::int64_t rows) {
  return std::max<std::int64_t>(16, (rows + 63) / 64);
}

template <class T>
void gradient(ThreadPool& pool, const RmsNormGradient& k) {
  using W = Wide<T>;
  const std::int64_t rows = k.x.size(0), columns = k.x.size(1);
  const std::int64_t block = rows_per_part(rows);
  const std::int64_t parts = (rows + block - 1) / block;
  W* partial = scratch<W>(parts * columns);
  const T* d_out = k.d_out.as<T>();
  const T* x = k.x.as<T>();
  const W* weight = k.weight.as<W>();
  const W* inverse_rms = k.inverse_rms.as<W>();
  T* d_x = k.d_x.as<T>();
  pool.run(parts, [&](std::int64_t part, int) {
    W* sums = partial + part * columns;
    std::fill_n(sums, columns, W{0});
    const std::int64_t end = std::min(rows, (part + 1) * block);
    RowGradient<T> row;
    row.weight = weight;
    row.d_weight = sums;
    row.accumulate = k.accumulate;
    for (std::int64_t i = part * block; i < end; ++i) {
      row.d_out = row_of(d_out, k.d_out, i);
      row.x = row_of(x, k.x, i);
      row.inverse = inverse_rms[i];
      row.d_x = row_of(d_x, k.d_x, i);
      row.run(columns);
    }
  });
  W* d_weight = k.d_weight.as<W>();
  for_column_blocks(pool, columns, 1024,
                    [&](std::int64_t begin, std::int64_t count) {
                      for (std::int64_t part = 0; part < parts; ++part) {
                        const W* sums = partial + part * columns + begin;
                        for (std::int64_t c = 0; c < count; ++c)
                          d_weight[begin + c] += sums[c];
                      }
                    });
}

}  // namespace

void CpuKernels::run(const RmsNorm& k) {
  visit_floating(k.x.dtype(), [&]<class T>(T) {
    using W = Wide<T>;
    T* x = k.x.as<T>();
    const T* residual = k.residual.defined() ? k.residual.as<T>() : nullptr;
    const W* weight = k.weight.as<W>();
    T* out = k.out.as<T>();
    W* inverse_rms = k.inverse_rms.as<W>();
    const std::int64_t columns = k.x.size(1);
    for_row_blocks(
        pool_, k.x.size(0), columns, [&](std::int64_t begin, std::int64_t end) {
          for (std::int64_t i = begin; i < end; ++i) {
            if (residual != nullptr) {
              add_residual(row_of(residual, k.residual, i), columns,
                           row_of(x, k.x, i));
            }
            normalize_row(row_of(x, k.x, i), weight, columns, k.epsilon,
                          row_of(out, k.out, i), inverse_rms + i);
          }
        });
  });
}

void CpuKernels::run(const RmsNormGradient& k) {
  visit_floating(k.x.dtype(), [&]<class T>(T) { gradient<T>(pool_, k); });
}

}  // namespace catena::cpu
