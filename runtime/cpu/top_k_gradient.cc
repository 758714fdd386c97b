#include <limits>

#include "runtime/cpu/backend.h"
#include "runtime/cpu/rows.h"

namespace catena::cpu {
namespace {

/// A row of TopKGradient.
template <class W>
struct Row {
  const W* logits;
  const W* scores;
  const W* probability;
  const std::int32_t* index;
  const W* d_weights;
  const W* d_probability;  // or nullptr
  W log_sum_exp;
  W* d_logits;
};

/// Adds to d_scores what comes through the weights.
template <class W>
void add_weights(const TopKRule& rule, const Row<W>& row, W* d_scores) {
  const auto scale = static_cast<W>(rule.scale);
  if (!rule.renormalize) {
    for (std::int64_t j = 0; j < rule.k; ++j) {
      d_scores[row.index[j]] += scale * row.d_weights[j];
    }
    return;
  }
  W sum = 0, product = 0;
  for (std::int64_t j = 0; j < rule.k; ++j) {
    sum += row.scores[row.index[j]];
    product += row.scores[row.index[j]] * row.d_weights[j];
  }
  sum += static_cast<W>(1e-20);
  const W mean = product / sum;
  for (std::int64_t j = 0; j < rule.k; ++j) {
    d_scores[row.index[j]] += scale * (row.d_weights[j] - mean) / sum;
  }
}

template <class W>
W inner_product(const W* a, const W* b, std::int64_t count) {
  LaneSum<W> sum;
  sum.add(count, [&](std::int64_t c) { return a[c] * b[c]; });
  return sum.total();
}

/// d_scores from d_probability, or zeros.
template <class W>
void begin_scores(const TopKRule& rule, const Row<W>& row, std::int64_t columns,
                  W* d_scores) {
  if (row.d_probability == nullptr) {
    std::fill_n(d_scores, columns, W{0});
    return;
  }
  switch (rule.score) {
    case Score::kSoftmax:
      std::copy_n(row.d_probability, columns, d_scores);
      return;
    case Score::kSigmoid:
      break;
  }
  const W mean = inner_product(row.d_probability, row.probability, columns);
  LaneSum<W> sum;
  sum.add(columns, [&](std::int64_t c) { return row.scores[c]; });
  const W total = std::max(sum.total(), std::numeric_limits<W>::min());
  for (std::int64_t c = 0; c < columns; ++c) {
    d_scores[c] = (row.d_probability[c] - mean) / total;
  }
}

template <class W>
void run_row(const TopKRule& rule, const Row<W>& row, std::int64_t columns,
             W z_coefficient) {
  W* d_scores = scratch<W>(columns);
  begin_scores(rule, row, columns, d_scores);
  add_weights(rule, row, d_scores);
  const W z = 2 * z_coefficient * row.log_sum_exp;
  switch (rule.score) {
    case Score::kSoftmax: {
      const W mean = inner_product(d_scores, row.scores, columns);
      for (std::int64_t c = 0; c < columns; ++c) {
        row.d_logits[c] = row.scores[c] * (d_scores[c] - mean + z);
      }
      return;
    }
    case Score::kSigmoid:
      break;
  }
  for (std::int64_t c = 0; c < columns; ++c) {
    row.d_logits[c] = d_scores[c] * row.scores[c] * (W{1} - row.scores[c]);
  }
  if (z_coefficient == 0) return;
  for (std::int64_t c = 0; c < columns; ++c) {
    d_scores[c] = row.logits[c] - row.log_sum_exp;
  }
  exp_in_place(d_scores, columns);
  for (std::int64_t c = 0; c < columns; ++c) {
    row.d_logits[c] += z * d_scores[c];
  }
}

template <class W>
Row<W> row_at(const TopKGradient& k, std::int64_t i) {
  const W* d_probability = nullptr;
  if (k.d_probability.defined()) {
    const std::int32_t segment = k.segment.as<std::int32_t>()[i];
    CATENA_CHECK(segment >= 0 && segment < k.d_probability.size(0),
                 "[top_k_gradient] row {} in segment {} of {}", i, segment,
                 k.d_probability.size(0));
    d_probability = row_of(k.d_probability.as<W>(), k.d_probability, segment);
  }
  const Row<W> row{
      .logits = row_of(k.logits.as<W>(), k.logits, i),
      .scores = row_of(k.scores.as<W>(), k.scores, i),
      .probability = row_of(k.probability.as<W>(), k.probability, i),
      .index = row_of(k.index.as<std::int32_t>(), k.index, i),
      .d_weights = row_of(k.d_weights.as<W>(), k.d_weights, i),
      .d_probability = d_probability,
      .log_sum_exp = k.log_sum_exp.as<W>()[i],
      .d_logits = row_of(k.d_logits.as<W>(), k.d_logits, i)};
  for (std::int64_t j = 0; j < k.rule.k; ++j) {
    CATENA_CHECK(row.index[j] >= 0 && row.index[j] < k.logits.size(1),
                 "[top_k_gradient] index {} of {}", row.index[j],
                 k.logits.size(1));
  }
  return row;
}

}  // namespace

void CpuKernels::run(const TopKGradient& k) {
  visit_wide(k.logits.dtype(), [&]<class W>(W) {
    const std::int64_t columns = k.logits.size(1);
    for_row_blocks(pool_, k.logits.size(0), 8 * columns,
                   [&](std::int64_t begin, std::int64_t end) {
                     for (std::int64_t i = begin; i < end; ++i) {
                       run_row(k.rule, row_at<W>(k, i), columns,
                               static_cast<W>(k.z_coefficient));
                     }
                   });
  });
}

}  // namespace catena::cpu
