#include <cmath>

#include "runtime/cpu/backend.h"
#include "runtime/cpu/rows.h"

namespace catena::cpu {
namespace {

template <class W>
W log_sum_exp(const W* logits, std::int64_t columns) {
  const W high = largest(logits, columns);
  W terms[kRun];
  LaneSum<W> sum;
  for_runs(columns, [&](std::int64_t begin, std::int64_t count) {
    for (std::int64_t c = 0; c < count; ++c) {
      terms[c] = logits[begin + c] - high;
    }
    exp_in_place(terms, count);
    sum.add(count, [&](std::int64_t c) { return terms[c]; });
  });
  return high + std::log(sum.total());
}

/// gradient may be the logits: a run is read before it is written.
template <class T, class W>
void gradient_row(const W* logits, std::int64_t columns, std::int32_t target,
                  W log_sum, W scale, T* gradient) {
  W terms[kRun];
  for_runs(columns, [&](std::int64_t begin, std::int64_t count) {
    for (std::int64_t c = 0; c < count; ++c) {
      terms[c] = logits[begin + c] - log_sum;
    }
    exp_in_place(terms, count);
    if (target >= begin && target < begin + count) terms[target - begin] -= 1;
    for (std::int64_t c = 0; c < count; ++c) terms[c] *= scale;
    convert(terms, gradient + begin, count);
  });
}

/// G is T, or W where no gradient is wanted.
template <class G>
void cross_entropy(ThreadPool& pool, const CrossEntropy& k) {
  using W = Wide<G>;
  const std::int64_t columns = k.logits.size(1);
  const W* logits = k.logits.as<W>();
  const std::int32_t* targets = k.target.as<std::int32_t>();
  W* loss = k.loss.as<W>();
  G* gradient = k.gradient.defined() ? k.gradient.as<G>() : nullptr;
  for_row_blocks(
      pool, k.logits.size(0), columns,
      [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i) {
          const std::int32_t target = targets[i];
          CATENA_CHECK(target < columns,
                       "[cross_entropy] target {} of row {} with {} columns",
                       target, i, columns);
          G* d_row =
              gradient == nullptr ? nullptr : row_of(gradient, k.gradient, i);
          loss[i] = 0;
          if (target < 0) {
            if (d_row != nullptr) std::fill_n(d_row, columns, G{});
            continue;
          }
          const W* row = row_of(logits, k.logits, i);
          const W log_sum = log_sum_exp(row, columns);
          loss[i] = log_sum - row[target];
          if (d_row == nullptr) continue;
          gradient_row(row, columns, target, log_sum, static_cast<W>(k.scale),
                       d_row);
        }
      });
}

}  // namespace

void CpuKernels::run(const CrossEntropy& k) {
  const TensorView& typed = k.gradient.defined() ? k.gradient : k.logits;
  visit_floating(typed.dtype(),
                 [&]<class G>(G) { cross_entropy<G>(pool_, k); });
}

}  // namespace catena::cpu
