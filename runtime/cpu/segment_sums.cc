#include "runtime/cpu/backend.h"
#include "runtime/cpu/rows.h"

namespace catena::cpu {
namespace {

template <class W>
void segment_sums(ThreadPool& pool, const SegmentSums& k) {
  constexpr std::int64_t kColumns = 32;
  const std::int64_t rows = k.x.size(0), choices = k.index.size(1);
  const W* x = k.x.as<W>();
  const std::int32_t* indices = k.index.as<std::int32_t>();
  const std::int32_t* segment = k.segment.as<std::int32_t>();
  W* sums = k.sums.as<W>();
  W* counts = k.counts.as<W>();
  for_column_blocks(
      pool, k.x.size(1), kColumns, [&](std::int64_t begin, std::int64_t count) {
        for (std::int64_t i = 0; i < rows; ++i) {
          const W* from = row_of(x, k.x, i) + begin;
          W* sum = row_of(sums, k.sums, segment[i]) + begin;
          for (std::int64_t c = 0; c < count; ++c) sum[c] += from[c];
          const std::int32_t* index = row_of(indices, k.index, i);
          W* tally = row_of(counts, k.counts, segment[i]);
          for (std::int64_t j = 0; j < choices; ++j) {
            const bool mine = index[j] >= begin && index[j] < begin + count;
            if (mine) tally[index[j]] += 1;
          }
        }
      });
}

template <class W>
void balance_loss(const BalanceLoss& k) {
  const std::int64_t segments = k.sums.size(0), columns = k.sums.size(1);
  const W* sums = k.sums.as<W>();
  const W* counts = k.counts.as<W>();
  const W* length = k.length.as<W>();
  W* gradient = k.d_probability.as<W>();
  double loss = 0;
  for (std::int64_t s = 0; s < segments; ++s) {
    const W* sum = row_of(sums, k.sums, s);
    const W* count = row_of(counts, k.counts, s);
    W* d_row = row_of(gradient, k.d_probability, s);
    const double n = length[s];
    for (std::int64_t c = 0; c < columns; ++c) {
      if (n <= 0) {
        d_row[c] = 0;
        continue;
      }
      const double f = static_cast<double>(count[c]) *
                       static_cast<double>(columns) /
                       (n * static_cast<double>(k.k));
      loss += f * static_cast<double>(sum[c]) / n;
      d_row[c] = static_cast<W>(k.coefficient * f / n);
    }
  }
  *k.loss.as<W>() += static_cast<W>(k.coefficient * loss);
}

void check_range(std::string_view kernel, std::string_view what,
                 const TensorView& view, std::int64_t size) {
  const std::int32_t* values = view.as<std::int32_t>();
  const std::int64_t columns = view.dimensions() == 2 ? view.size(1) : 1;
  for (std::int64_t i = 0; i < view.size(0); ++i) {
    for (std::int64_t j = 0; j < columns; ++j) {
      const std::int32_t value = values[i * view.stride(0) + j];
      CATENA_CHECK(value >= 0 && value < size, "[{}] {} {} of row {}, of {}",
                   kernel, what, value, i, size);
    }
  }
}

}  // namespace

void CpuKernels::run(const SegmentSums& k) {
  check_range(SegmentSums::kName, "index", k.index, k.x.size(1));
  check_range(SegmentSums::kName, "segment", k.segment, k.sums.size(0));
  visit_wide(k.x.dtype(), [&]<class W>(W) { segment_sums<W>(pool_, k); });
}

void CpuKernels::run(const BalanceLoss& k) {
  visit_wide(k.sums.dtype(), [&]<class W>(W) { balance_loss<W>(k); });
}

void CpuKernels::run(const PairCounts& k) {
  check_range(PairCounts::kName, "first", k.first, k.counts.size(0));
  check_range(PairCounts::kName, "second", k.second, k.counts.size(0));
  const std::int64_t rows = k.first.size(0), choices = k.first.size(1);
  const std::int32_t* firsts = k.first.as<std::int32_t>();
  const std::int32_t* seconds = k.second.as<std::int32_t>();
  std::int64_t* counts = k.counts.as<std::int64_t>();
  for (std::int64_t i = 0; i < rows; ++i) {
    const std::int32_t* first = row_of(firsts, k.first, i);
    const std::int32_t* second = row_of(seconds, k.second, i);
    for (std::int64_t j = 0; j < choices; ++j) {
      std::int64_t* count = row_of(counts, k.counts, first[j]);
      for (std::int64_t l = 0; l < choices; ++l) ++count[second[l]];
    }
  }
}

}  // namespace catena::cpu
