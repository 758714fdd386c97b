#include <algorithm>
#include <cstring>
#include <type_traits>

#include "runtime/cpu/backend.h"
#include "runtime/cpu/rows.h"

namespace catena::cpu {
namespace {

void check_index(std::string_view kernel, std::int64_t index,
                 std::int64_t size) {
  CATENA_CHECK(index < size, "[{}] index {} into {} rows", kernel, index, size);
}

/// Calls visit(S{}, O{}) with the types of `source` and `out`, of which one
/// may be the wide type of the other.
template <class Visit>
void visit_converted(DType source, DType out, const Visit& visit) {
  visit_floating(source, [&]<class S>(S) {
    visit_floating(out, [&]<class O>(O) {
      if constexpr (std::is_same_v<Wide<S>, Wide<O>>) visit(S{}, O{});
    });
  });
}

template <class T, class O>
void combine(ThreadPool& pool, const CombineRows& k) {
  using W = Wide<T>;
  const std::int64_t columns = k.out.size(1), choices = k.index.size(1);
  const T* source = k.source.as<T>();
  const std::int32_t* indices = k.index.as<std::int32_t>();
  const W* weights = k.weight.defined() ? k.weight.as<W>() : nullptr;
  O* out = k.out.as<O>();
  const auto combine_row = [&](std::int64_t i) {
    const std::int32_t* index = row_of(indices, k.index, i);
    const W* weight = weights ? row_of(weights, k.weight, i) : nullptr;
    O* to = row_of(out, k.out, i);
    const O* residual = k.residual.defined()
                            ? row_of(k.residual.as<O>(), k.residual, i)
                            : nullptr;
    for (std::int64_t j = 0; j < choices; ++j) {
      check_index(CombineRows::kName, index[j], k.source.size(0));
    }
    // Registers side by side, that finding a row is not paid for each.
    const auto combine_columns = [&]<int kRegisters>(std::int64_t c) {
      const auto left = [&](int r) {
        return kRegisters > 1 ? kLanes<W> : columns - c - r * kLanes<W>;
      };
      Vector<W> sum[kRegisters];
#pragma GCC unroll 8
      for (int r = 0; r < kRegisters; ++r) sum[r] = Vector<W>{};
      for (std::int64_t j = 0; j < choices; ++j) {
        if (index[j] < 0) continue;
        const T* const from = row_of(source, k.source, index[j]) + c;
        const Vector<W> factor = broadcast(weight ? weight[j] : W{1});
#pragma GCC unroll 8
        for (int r = 0; r < kRegisters; ++r) {
          sum[r] += factor * load(from + r * kLanes<W>, left(r));
        }
      }
#pragma GCC unroll 8
      for (int r = 0; r < kRegisters; ++r) {
        const std::int64_t at = c + r * kLanes<W>;
        if (k.accumulate) sum[r] += load(to + at, left(r));
        if (residual) sum[r] += load(residual + at, left(r));
        store(to + at, sum[r], left(r));
      }
    };
    constexpr int kSideBySide = 8;
    std::int64_t c = 0;
    for (; c + kSideBySide * kLanes<W> <= columns;
         c += kSideBySide * kLanes<W>) {
      combine_columns.template operator()<kSideBySide>(c);
    }
    for (; c < columns; c += kLanes<W>) {
      combine_columns.template operator()<1>(c);
    }
  };
  // Rows of one choice lie anywhere.
  const auto fetch_row = [&](std::int64_t i) {
    const std::int32_t* const index = row_of(indices, k.index, i);
    for (std::int64_t j = 0; j < choices; ++j) {
      if (index[j] >= 0) fetch(row_of(source, k.source, index[j]), columns);
    }
  };
  for_row_blocks(pool, k.out.size(0), columns * (choices + 1),
                 [&](std::int64_t begin, std::int64_t end) {
                   for (std::int64_t i = begin; i < end; ++i) {
                     if (i + 1 < end) fetch_row(i + 1);
                     combine_row(i);
                   }
                 });
}

template <class S, class O>
void gather_converted(ThreadPool& pool, const GatherRows& k) {
  const std::int64_t columns = k.out.size(1);
  const std::int32_t* index = k.index.as<std::int32_t>();
  const S* source = k.source.as<S>();
  O* out = k.out.as<O>();
  for_row_blocks(pool, k.out.size(0), columns,
                 [&](std::int64_t begin, std::int64_t end) {
                   for (std::int64_t i = begin; i < end; ++i) {
                     check_index(GatherRows::kName, index[i], k.source.size(0));
                     O* const to = row_of(out, k.out, i);
                     if (index[i] < 0) {
                       std::fill_n(to, columns, O{});
                     } else {
                       convert(row_of(source, k.source, index[i]), to, columns);
                     }
                   }
                 });
}

}  // namespace

void CpuKernels::run(const GatherRows& k) {
  if (k.source.dtype() != k.out.dtype()) {
    visit_converted(
        k.source.dtype(), k.out.dtype(),
        [&]<class S, class O>(S, O) { gather_converted<S, O>(pool_, k); });
    return;
  }
  const std::int64_t element = size_bytes(k.out.dtype());
  const std::int64_t columns = k.out.size(1);
  const auto bytes = static_cast<std::size_t>(columns * element);
  const char* source = static_cast<const char*>(k.source.data());
  char* out = static_cast<char*>(k.out.data());
  const std::int32_t* index = k.index.as<std::int32_t>();
  if (bytes == 0) return;
  for_row_blocks(
      pool_, k.out.size(0), columns, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i) {
          check_index(GatherRows::kName, index[i], k.source.size(0));
          if (i + 2 < end && index[i + 2] >= 0) {
            fetch(source + index[i + 2] * k.source.stride(0) * element,
                  columns * element);
          }
          char* to = out + i * k.out.stride(0) * element;
          if (index[i] < 0) {
            std::memset(to, 0, bytes);
          } else {
            std::memcpy(to, source + index[i] * k.source.stride(0) * element,
                        bytes);
          }
        }
      });
}

void CpuKernels::run(const ScatterAddRows& k) {
  constexpr std::int64_t kColumns = 64;
  const std::int64_t rows = k.rows.size(0);
  const std::int32_t* index = k.index.as<std::int32_t>();
  for (std::int64_t i = 0; i < rows; ++i) {
    check_index(ScatterAddRows::kName, index[i], k.out.size(0));
  }
  visit_floating(k.rows.dtype(), [&]<class T>(T) {
    using W = Wide<T>;
    const T* from = k.rows.as<T>();
    W* out = k.out.as<W>();
    for_column_blocks(pool_, k.rows.size(1), kColumns,
                      [&](std::int64_t begin, std::int64_t count) {
                        W term[kColumns];
                        for (std::int64_t i = 0; i < rows; ++i) {
                          if (index[i] < 0) continue;
                          convert(row_of(from, k.rows, i) + begin, term, count);
                          W* to = row_of(out, k.out, index[i]) + begin;
                          for (std::int64_t c = 0; c < count; ++c)
                            to[c] += term[c];
                        }
                      });
  });
}

void CpuKernels::run(const CombineRows& k) {
  visit_converted(k.source.dtype(), k.out.dtype(),
                  [&]<class T, class O>(T, O) { combine<T, O>(pool_, k); });
}

}  // namespace catena::cpu
