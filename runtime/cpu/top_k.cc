#include <cmath>
#include <limits>

#include "runtime/cpu/backend.h"
#include "runtime/cpu/rows.h"

namespace catena::cpu {
namespace {

/// A row of TopK.
template <class W>
struct Row {
  const W* logits;
  const W* bias;               // or nullptr
  const std::int32_t* forced;  // or nullptr
  W* scores;
  W* probability;
  std::int32_t* index;
  W* weights;
  W* log_sum_exp;
  W* entropy;
};

/// With e = exp(x - max): softmax = e / sum, log_sum_exp = max + log(sum),
/// entropy = log(sum) - sum p (x - max): both of its terms are positive.
template <class W>
void softmax_scores(const Row<W>& row, std::int64_t columns, W* shifted) {
  const W high = largest(row.logits, columns);
  for (std::int64_t c = 0; c < columns; ++c) shifted[c] = row.logits[c] - high;
  std::copy_n(shifted, columns, row.scores);
  exp_in_place(row.scores, columns);
  LaneSum<W> sum;
  sum.add(columns, [&](std::int64_t c) { return row.scores[c]; });
  const W total = sum.total();
  for (std::int64_t c = 0; c < columns; ++c) row.scores[c] /= total;
  LaneSum<W> mean;
  mean.add(columns, [&](std::int64_t c) {
    return row.scores[c] > 0 ? row.scores[c] * shifted[c] : W{0};
  });
  if (row.probability != row.scores) {
    std::copy_n(row.scores, columns, row.probability);
  }
  *row.log_sum_exp = high + std::log(total);
  *row.entropy = std::log(total) - mean.total();
}

template <class W>
void sigmoid_scores(const Row<W>& row, std::int64_t columns, W* work) {
  const W high = largest(row.logits, columns);
  for (std::int64_t c = 0; c < columns; ++c) work[c] = row.logits[c] - high;
  exp_in_place(work, columns);
  LaneSum<W> exponentials;
  exponentials.add(columns, [&](std::int64_t c) { return work[c]; });
  *row.log_sum_exp = high + std::log(exponentials.total());

  for (std::int64_t c = 0; c < columns; ++c) work[c] = -row.logits[c];
  exp_in_place(work, columns);
  for (std::int64_t c = 0; c < columns; ++c) {
    row.scores[c] = W{1} / (W{1} + work[c]);
  }
  LaneSum<W> sum;
  sum.add(columns, [&](std::int64_t c) { return row.scores[c]; });
  // Every score may underflow to 0, and then no column is likelier.
  const W total = std::max(sum.total(), std::numeric_limits<W>::min());
  W entropy = 0;
  for (std::int64_t c = 0; c < columns; ++c) {
    const W p = row.scores[c] / total;
    row.probability[c] = p;
    if (p > 0) entropy -= p * std::log(p);
  }
  *row.entropy = entropy;
}

/// The `best` largest of keys [0, count), by falling key, ties to the lowest
/// place, into `chosen`. NaN counts as -inf, so that the places are distinct
/// and in range whatever the keys are.
template <class W>
void choose(const W* keys, std::int64_t count, std::int64_t best,
            std::int32_t* chosen) {
  const auto key = [keys](std::int32_t place) {
    const W value = keys[place];
    return value == value ? value : -std::numeric_limits<W>::infinity();
  };
  std::int64_t found = 0;
  for (std::int32_t c = 0; c < count; ++c) {
    const W value = key(c);
    if (found == best && !(value > key(chosen[best - 1]))) continue;
    std::int64_t at = found < best ? found++ : best - 1;
    for (; at > 0 && value > key(chosen[at - 1]); --at) {
      chosen[at] = chosen[at - 1];
    }
    chosen[at] = c;
  }
}

template <class W>
W group_key(const W* keys, std::int64_t count, GroupScore score) {
  W first = -std::numeric_limits<W>::infinity(), second = first;
  for (std::int64_t c = 0; c < count; ++c) {
    if (keys[c] > first) {
      second = first;
      first = keys[c];
    } else if (keys[c] > second) {
      second = keys[c];
    }
  }
  switch (score) {
    case GroupScore::kMax:
      return first;
    case GroupScore::kTopTwoSum:
      return first + second;
  }
  return first;
}

/// Chooses from the columns of the best groups; `keys` are scores + bias.
template <class W>
void choose_grouped(const TopKRule& rule, const W* keys, std::int64_t columns,
                    std::int32_t* index) {
  const std::int64_t run = columns / rule.groups;
  W* group_keys = scratch<W, 1>(rule.groups + rule.top_groups * run);
  W* kept = group_keys + rule.groups;
  std::int32_t* groups = scratch<std::int32_t>(rule.top_groups);
  for (std::int64_t g = 0; g < rule.groups; ++g) {
    group_keys[g] = group_key(keys + g * run, run, rule.group_score);
  }
  choose(group_keys, rule.groups, rule.top_groups, groups);
  // In column order, so that ties go to the lowest column.
  std::sort(groups, groups + rule.top_groups);
  for (std::int64_t g = 0; g < rule.top_groups; ++g) {
    std::copy_n(keys + groups[g] * run, run, kept + g * run);
  }
  choose(kept, rule.top_groups * run, rule.k, index);
  for (std::int64_t j = 0; j < rule.k; ++j) {
    const std::int64_t place = index[j];
    index[j] =
        static_cast<std::int32_t>(groups[place / run] * run + place % run);
  }
}

/// Insertion sort: by falling score, ties to the lowest column.
template <class W>
void sort_by_score(const W* scores, std::int32_t* index, std::int64_t k) {
  const auto before = [scores](std::int32_t a, std::int32_t b) {
    return scores[a] > scores[b] || (scores[a] == scores[b] && a < b);
  };
  for (std::int64_t j = 1; j < k; ++j) {
    const std::int32_t column = index[j];
    std::int64_t at = j;
    for (; at > 0 && before(column, index[at - 1]); --at) {
      index[at] = index[at - 1];
    }
    index[at] = column;
  }
}

template <class W>
void choose_columns(const TopKRule& rule, const Row<W>& row,
                    std::int64_t columns, W* keys) {
  const W* chosen_by = row.scores;
  if (row.bias != nullptr) {
    for (std::int64_t c = 0; c < columns; ++c) {
      keys[c] = row.scores[c] + row.bias[c];
    }
    chosen_by = keys;
  }
  if (rule.groups > 1) {
    choose_grouped(rule, chosen_by, columns, row.index);
  } else {
    choose(chosen_by, columns, rule.k, row.index);
  }
  if (row.bias != nullptr) sort_by_score(row.scores, row.index, rule.k);
}

void check_column(std::int32_t column, std::int64_t columns) {
  CATENA_CHECK(column >= 0 && column < columns, "[top_k] index {} of {}",
               column, columns);
}

template <class W>
void run_row(const TopKRule& rule, const Row<W>& row, std::int64_t columns) {
  W* work = scratch<W>(columns);
  switch (rule.score) {
    case Score::kSoftmax:
      softmax_scores(row, columns, work);
      break;
    case Score::kSigmoid:
      sigmoid_scores(row, columns, work);
      break;
  }
  if (row.forced == nullptr) {
    choose_columns(rule, row, columns, work);
  } else {
    std::copy_n(row.forced, rule.k, row.index);
  }
  W sum = 0;
  for (std::int64_t j = 0; j < rule.k; ++j) {
    check_column(row.index[j], columns);
    row.weights[j] = row.scores[row.index[j]];
    sum += row.weights[j];
  }
  W factor = static_cast<W>(rule.scale);
  if (rule.renormalize) factor /= sum + static_cast<W>(1e-20);
  for (std::int64_t j = 0; j < rule.k; ++j) row.weights[j] *= factor;
}

template <class W>
void top_k(ThreadPool& pool, const TopK& k) {
  const std::int64_t columns = k.logits.size(1);
  const W* bias = k.bias.defined() ? k.bias.as<W>() : nullptr;
  const std::int32_t* forced =
      k.forced.defined() ? k.forced.as<std::int32_t>() : nullptr;
  for_row_blocks(
      pool, k.logits.size(0), 8 * columns,
      [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i) {
          const Row<W> row{
              .logits = row_of(k.logits.as<W>(), k.logits, i),
              .bias = bias,
              .forced = forced ? row_of(forced, k.forced, i) : nullptr,
              .scores = row_of(k.scores.as<W>(), k.scores, i),
              .probability = row_of(k.probability.as<W>(), k.probability, i),
              .index = row_of(k.index.as<std::int32_t>(), k.index, i),
              .weights = row_of(k.weights.as<W>(), k.weights, i),
              .log_sum_exp = k.log_sum_exp.as<W>() + i,
              .entropy = k.entropy.as<W>() + i};
          run_row(k.rule, row, columns);
        }
      });
}

}  // namespace

void CpuKernels::run(const TopK& k) {
  visit_wide(k.logits.dtype(), [&]<class W>(W) { top_k<W>(pool_, k); });
}

}  // namespace catena::cpu
