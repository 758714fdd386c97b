#include <atomic>
#include <cstring>

#include "runtime/cpu/backend.h"
#include "runtime/cpu/rows.h"

namespace catena::cpu {
namespace {

/// One to three dimensions as rows of columns: row r begins at
/// (r / middle) * outer + (r % middle) * inner.
struct Rows {
  explicit Rows(const TensorView& view) : data(view.data()) {
    const int last = view.dimensions() - 1;
    columns = view.size(last);
    if (last >= 1) {
      count = middle = view.size(last - 1);
      inner = view.stride(last - 1);
    }
    if (last == 2) {
      count *= view.size(0);
      outer = view.stride(0);
    }
  }
  template <class T>
  [[nodiscard]] T* at(std::int64_t row, std::int64_t column) const {
    return static_cast<T*>(data) + row / middle * outer + row % middle * inner +
           column;
  }

  void* data;
  std::int64_t count = 1, middle = 1, columns = 0, outer = 0, inner = 0;
};

/// Calls body(row, begin, count) for parts of rows, in parallel; long rows are
/// cut, short ones taken together.
template <class Body>
void for_parts(ThreadPool& pool, const Rows& rows, const Body& body) {
  if (rows.count == 0 || rows.columns == 0) return;
  const std::int64_t cuts =
      (rows.columns + kPieceElements - 1) / kPieceElements;
  for_row_blocks(pool, rows.count * cuts,
                 std::min(rows.columns, kPieceElements),
                 [&](std::int64_t from, std::int64_t to) {
                   for (std::int64_t part = from; part < to; ++part) {
                     const std::int64_t begin = part % cuts * kPieceElements;
                     body(part / cuts, begin,
                          std::min(kPieceElements, rows.columns - begin));
                   }
                 });
}

/// kLanes<double> values from any address, in float64.
template <class T>
Vector<double> load_double(const T* from) {
  if constexpr (std::is_same_v<T, double>) {
    return load(from);
  } else {
    typedef float Half __attribute__((vector_size(kVectorBytes / 2)));
    float lanes[kLanes<double>];
    for (int l = 0; l < kLanes<double>; ++l) {
      lanes[l] = static_cast<float>(from[l]);
    }
    Half half;
    std::memcpy(&half, lanes, sizeof(half));
    return __builtin_convertvector(half, Vector<double>);
  }
}

/// Sum of term(x[i]) in four chains of registers.
template <class T, class Term>
double sum_piece(const T* x, std::int64_t count, const Term& term) {
  constexpr std::int64_t kChains = 4, kWidth = kLanes<double>;
  Vector<double> sums[kChains] = {};
  std::int64_t i = 0;
  for (; i + kChains * kWidth <= count; i += kChains * kWidth) {
    fetch_ahead(x + i, kChains * kWidth);
    for (std::int64_t s = 0; s < kChains; ++s) {
      sums[s] += term(load_double(x + i + s * kWidth));
    }
  }
  for (; i < count; i += kWidth) {
    T rest[kWidth] = {};
    std::copy_n(x + i, std::min(kWidth, count - i), rest);
    sums[0] += term(load_double(rest));
  }
  return sum<double>((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

/// Sums term over fixed pieces of contiguous memory, each piece by itself,
/// then the pieces in order.
template <class T, class Term>
double sum_pieces(ThreadPool& pool, const TensorView& x, const Term& term) {
  const std::int64_t elements = x.elements();
  const std::int64_t pieces = (elements + kPieceElements - 1) / kPieceElements;
  const T* data = x.as<T>();
  double* partial = scratch<double>(pieces);
  for_column_blocks(pool, elements, kPieceElements,
                    [&](std::int64_t begin, std::int64_t count) {
                      partial[begin / kPieceElements] =
                          sum_piece(data + begin, count, term);
                    });
  double result = 0;
  for (std::int64_t i = 0; i < pieces; ++i) result += partial[i];
  return result;
}

template <class T>
std::int64_t non_finite(const T* x, std::int64_t columns) {
  using W = Wide<T>;
  std::int64_t result = 0;
  for_runs(columns, [&](std::int64_t begin, std::int64_t count) {
    W values[kRun];
    convert(x + begin, values, count);
    // x - x is 0 where x is finite, else NaN.
    int bad = 0;
    for (std::int64_t c = 0; c < count; ++c) {
      bad += values[c] - values[c] == W{0} ? 0 : 1;
    }
    result += bad;
  });
  return result;
}

template <class From, class To>
void copy_part(const From* from, To* to, std::int64_t count) {
  if constexpr (std::is_same_v<From, To>) {
    std::memmove(to, from, static_cast<std::size_t>(count) * sizeof(From));
  } else {
    convert(from, to, count);
  }
}

template <class From, class To>
void copy_rows(ThreadPool& pool, const Copy& k) {
  const Rows from(k.from), to(k.to);
  for_parts(pool, to,
            [&](std::int64_t row, std::int64_t begin, std::int64_t count) {
              copy_part(from.at<const From>(row, begin), to.at<To>(row, begin),
                        count);
            });
}

template <class T>
void fill_rows(ThreadPool& pool, const TensorView& x, T value) {
  const Rows rows(x);
  for_parts(pool, rows,
            [&](std::int64_t row, std::int64_t begin, std::int64_t count) {
              std::fill_n(rows.at<T>(row, begin), count, value);
            });
}

template <class T>
void sum_middle(ThreadPool& pool, const SumMiddle& k) {
  using W = Wide<T>;
  const T* x = k.x.as<T>();
  T* out = k.out.as<T>();
  const std::int64_t middle = k.x.size(1), columns = k.x.size(2);
  for_row_blocks(
      pool, k.x.size(0), middle * columns,
      [&](std::int64_t first, std::int64_t last) {
        W sum[kRun], term[kRun];
        for (std::int64_t i = first; i < last; ++i) {
          for_runs(columns, [&](std::int64_t begin, std::int64_t count) {
            std::fill_n(sum, count, W{0});
            for (std::int64_t m = 0; m < middle; ++m) {
              convert(row_of(x, k.x, i) + m * k.x.stride(1) + begin, term,
                      count);
              for (std::int64_t c = 0; c < count; ++c) sum[c] += term[c];
            }
            convert(sum, row_of(out, k.out, i) + begin, count);
          });
        }
      });
}

}  // namespace

void CpuKernels::run(const SumSquares& k) {
  visit_floating(k.x.dtype(), [&]<class T>(T) {
    *k.out.as<double>() = sum_pieces<T>(
        pool_, k.x, [](const Vector<double>& x) { return x * x; });
  });
}

void CpuKernels::run(const Sum& k) {
  visit_floating(k.x.dtype(), [&]<class T>(T) {
    *k.out.as<double>() =
        sum_pieces<T>(pool_, k.x, [](const Vector<double>& x) { return x; });
  });
}

void CpuKernels::run(const CountNonFinite& k) {
  visit_floating(k.x.dtype(), [&]<class T>(T) {
    const Rows rows(k.x);
    std::atomic<std::int64_t> result = 0;
    for_parts(pool_, rows,
              [&](std::int64_t row, std::int64_t begin, std::int64_t count) {
                const std::int64_t bad =
                    non_finite(rows.at<const T>(row, begin), count);
                if (bad > 0) result.fetch_add(bad, std::memory_order_relaxed);
              });
    *k.out.as<std::int64_t>() = result.load();
  });
}

void CpuKernels::run(const Add& k) {
  visit_floating(k.out.dtype(), [&]<class T>(T) {
    const Rows a(k.a), b(k.b), out(k.out);
    for_parts(pool_, out,
              [&](std::int64_t row, std::int64_t first, std::int64_t length) {
                Wide<T> x[kRun], y[kRun];
                for_runs(length, [&](std::int64_t begin, std::int64_t count) {
                  convert(a.at<const T>(row, first + begin), x, count);
                  convert(b.at<const T>(row, first + begin), y, count);
                  for (std::int64_t c = 0; c < count; ++c) x[c] += y[c];
                  convert(x, out.at<T>(row, first + begin), count);
                });
              });
  });
}

void CpuKernels::run(const Copy& k) {
  switch (k.from.dtype()) {
    case DType::kInt32:
      return copy_rows<std::int32_t, std::int32_t>(pool_, k);
    case DType::kInt64:
      return copy_rows<std::int64_t, std::int64_t>(pool_, k);
    case DType::kFloat32:
    case DType::kBFloat16:
    case DType::kFloat64:
      break;
  }
  visit_floating(k.from.dtype(), [&]<class From>(From) {
    visit_floating(k.to.dtype(),
                   [&]<class To>(To) { copy_rows<From, To>(pool_, k); });
  });
}

void CpuKernels::run(const Fill& k) {
  switch (k.x.dtype()) {
    case DType::kFloat32:
      return fill_rows(pool_, k.x, static_cast<float>(k.value));
    case DType::kBFloat16:
      return fill_rows(pool_, k.x, BFloat16(static_cast<float>(k.value)));
    case DType::kFloat64:
      return fill_rows(pool_, k.x, k.value);
    case DType::kInt32:
      return fill_rows(pool_, k.x, static_cast<std::int32_t>(k.value));
    case DType::kInt64:
      return fill_rows(pool_, k.x, static_cast<std::int64_t>(k.value));
  }
}

void CpuKernels::run(const SumMiddle& k) {
  visit_floating(k.out.dtype(), [&]<class T>(T) { sum_middle<T>(pool_, k); });
}

}  // namespace catena::cpu
