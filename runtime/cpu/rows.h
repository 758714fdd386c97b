#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "runtime/cpu/thread_pool.h"
#include "runtime/cpu/vector.h"
#include "runtime/tensor.h"

/// What kernels that work row by row share. Some compute in registers
/// (vector.h); others widen a short run of a row into arrays on the stack,
/// compute there, and narrow the result: one body for all element types, and
/// loops that vectorise even where an output is an input.
namespace catena::cpu {

/// Elements widened at a time.
inline constexpr std::int64_t kRun = 256;

/// Elements of one piece of parallel work. Fixed, so that results do not
/// depend on the number of threads.
inline constexpr std::int64_t kPieceElements = 16384;

/// Calls visit(T{}) with the floating type that `dtype` names.
template <class Visit>
void visit_floating(DType dtype, const Visit& visit) {
  switch (dtype) {
    case DType::kFloat32:
      return visit(float{});
    case DType::kBFloat16:
      return visit(BFloat16{});
    case DType::kFloat64:
      return visit(double{});
    case DType::kInt32:
    case DType::kInt64:
      break;
  }
  fail(ErrorKind::kInternal, "{} where a floating type was checked for",
       name(dtype));
}

/// The same for the types that wide() gives.
template <class Visit>
void visit_wide(DType dtype, const Visit& visit) {
  if (dtype == DType::kFloat64) return visit(double{});
  visit(float{});
}

template <class To, class From>
void convert(const From* from, To* to, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) {
    if constexpr (std::is_same_v<From, BFloat16>) {
      to[i] = static_cast<To>(static_cast<float>(from[i]));
    } else if constexpr (std::is_same_v<To, BFloat16>) {
      to[i] = BFloat16(static_cast<float>(from[i]));
    } else {
      to[i] = static_cast<To>(from[i]);
    }
  }
}

/// Calls body(begin, count) for runs of at most kRun that cover [0, columns).
template <class Body>
void for_runs(std::int64_t columns, const Body& body) {
  for (std::int64_t begin = 0; begin < columns; begin += kRun) {
    body(begin, std::min(kRun, columns - begin));
  }
}

/// A sum in sixteen interleaved parts, which vectorises and whose order is
/// that of the terms alone.
template <class W>
class LaneSum {
 public:
  /// Adds term(0) .. term(count - 1).
  template <class Term>
  void add(std::int64_t count, const Term& term) {
    std::int64_t i = 0;
    for (; i + kParts <= count; i += kParts) {
      for (std::int64_t l = 0; l < kParts; ++l) lanes_[l] += term(i + l);
    }
    for (std::int64_t l = 0; i + l < count; ++l) lanes_[l] += term(i + l);
  }
  [[nodiscard]] W total() const {
    W sums[kParts];
    std::copy_n(lanes_, kParts, sums);
    for (std::int64_t width = kParts / 2; width > 0; width /= 2) {
      for (std::int64_t l = 0; l < width; ++l) sums[l] += sums[l + width];
    }
    return sums[0];
  }

 private:
  static constexpr std::int64_t kParts = 16;
  W lanes_[kParts] = {};
};

/// Largest of `count` >= 1 values; a NaN is passed over unless it comes first.
template <class W>
[[nodiscard]] W largest(const W* values, std::int64_t count) {
  constexpr std::int64_t kParts = 16;
  W lanes[kParts];
  std::fill_n(lanes, kParts, values[0]);
  std::int64_t i = 0;
  for (; i + kParts <= count; i += kParts) {
    for (std::int64_t l = 0; l < kParts; ++l) {
      lanes[l] = values[i + l] > lanes[l] ? values[i + l] : lanes[l];
    }
  }
  for (; i < count; ++i) lanes[0] = std::max(lanes[0], values[i]);
  return *std::max_element(lanes, lanes + kParts);
}

/// Row `row` of a matrix, or of the outermost dimension of any tensor.
template <class T>
[[nodiscard]] T* row_of(T* data, const TensorView& view, std::int64_t row) {
  return data + row * view.stride(0);
}

/// Begins to bring `count` values from memory, for a row that is read next;
/// any address will do.
template <class T>
void fetch(const T* row, std::int64_t count) {
  constexpr std::int64_t kLine = 64 / static_cast<std::int64_t>(sizeof(T));
  for (std::int64_t i = 0; i < count; i += kLine) __builtin_prefetch(row + i);
}

/// fetch() for long contiguous memory of which `count` values at x are read
/// now: a page ahead, which the processor's own prefetching stops short of.
template <class T>
void fetch_ahead(const T* x, std::int64_t count) {
  fetch(x + 4096 / sizeof(T), count);
}

/// Calls body(begin, end) for blocks of rows, in parallel; a block has about
/// kPieceElements elements, `elements_per_row` each.
template <class Body>
void for_row_blocks(ThreadPool& pool, std::int64_t rows,
                    std::int64_t elements_per_row, const Body& body) {
  const std::int64_t block = std::max<std::int64_t>(
      1, kPieceElements / std::max<std::int64_t>(1, elements_per_row));
  pool.run((rows + block - 1) / block, [&](std::int64_t index, int) {
    body(index * block, std::min(rows, (index + 1) * block));
  });
}

/// Calls body(begin, count) for blocks of columns, in parallel.
template <class Body>
void for_column_blocks(ThreadPool& pool, std::int64_t columns,
                       std::int64_t block, const Body& body) {
  pool.run((columns + block - 1) / block, [&](std::int64_t index, int) {
    body(index * block, std::min(block, columns - index * block));
  });
}

/// Memory of the calling thread that lives as long as it does and only grows;
/// not cleared. One array for each T and Slot.
template <class T, int Slot = 0>
[[nodiscard]] T* scratch(std::int64_t count) {
  static thread_local Scratch memory;
  return memory.get<T>(std::max<std::int64_t>(count, 1));
}

/// x[i] = exp(x[i]).
template <class W>
void exp_in_place(W* x, std::int64_t count) {
  for (std::int64_t i = 0; i < count; i += kLanes<W>) {
    store(x + i, exp(load(x + i, count - i)), count - i);
  }
}

}  // namespace catena::cpu
