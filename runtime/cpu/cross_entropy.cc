#include <cmath>

#include "runtime/cpu/backend.h"
#include "runtime/cpu/rows.h"

namespace catena::cpu {
namespace {

/// terms[c] = exp(logits[c] - high), high the largest of them.
/// Returns high; the sum of the terms goes to `total`.
template <class W>
W exponentials(const W* logits, std::int64_t columns, W* terms, W* total) {
  const W high = largest(logits, columns);
  Vector<W> sums{};
  for (std::int64_t c = 0; c < columns; c += kLanes<W>) {
    const std::int64_t left = columns - c;
    Vector<W> term = exp(load(logits + c, left) - high);
    if (left < kLanes<W>) {
      for (std::int64_t l = left; l < kLanes<W>; ++l) term[l] = 0;
    }
    store(terms + c, term, left);
    sums += term;
  }
  *total = sum<W>(sums);
  return high;
}

/// gradient = terms * factor, less `scale` at the target.
template <class T, class W>
void gradient_row(const W* terms, std::int64_t columns, std::int32_t target,
                  W factor, W scale, T* gradient) {
  for (std::int64_t c = 0; c < columns; c += kLanes<W>) {
    store(gradient + c, load(terms + c, columns - c) * factor, columns - c);
  }
  const W chosen[kLanes<W>] = {terms[target] * factor - scale};
  store(gradient + target, load(chosen), 1);
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
          W* const terms = scratch<W>(columns);
          W total;
          const W high = exponentials(row, columns, terms, &total);
          loss[i] = high + std::log(total) - row[target];
          if (d_row == nullptr) continue;
          const auto scale = static_cast<W>(k.scale);
          gradient_row(terms, columns, target, scale / total, scale, d_row);
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
