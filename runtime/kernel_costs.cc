// Costs of the kernels, as functions of shapes alone. Additions,
// multiplications, divisions, roots, exp and log are one FLOP each;
// comparisons, selections and integer arithmetic are none. An operand of which
// rows are gathered counts as the rows that are read.

#include "runtime/kernels.h"

namespace catena {
namespace {

double elements(const TensorView& tensor) {
  return static_cast<double>(tensor.elements());
}

template <class... Views>
double bytes(const Views&... views) {
  return static_cast<double>((views.bytes() + ... + 0));
}

double product(std::initializer_list<std::int64_t> factors) {
  double result = 1;
  for (const std::int64_t factor : factors) {
    result *= static_cast<double>(factor);
  }
  return result;
}

/// `count` rows as wide as those of `tensor`.
double row_bytes(const TensorView& tensor, std::int64_t count) {
  return product({count, tensor.size(1), size_bytes(tensor.dtype())});
}

}  // namespace

Cost Gemm::cost() const {
  const std::int64_t k = a.size(transpose_a ? 0 : 1);
  return {.flops = 2 * product({c.size(0), c.size(1), k}),
          .read_bytes = bytes(a, b) + (accumulate ? bytes(c) : 0),
          .write_bytes = bytes(c)};
}

Cost GroupedGemm::cost() const {
  return {.flops = 2 * product({a.size(0), a.size(1), c.size(1)}),
          .read_bytes = bytes(a, b, offsets),
          .write_bytes = bytes(c)};
}

Cost GroupedGemmGradient::cost() const {
  Cost cost{.flops = 0, .read_bytes = bytes(c), .write_bytes = bytes(c)};
  for (const auto& [a, b, offsets] : parts) {
    cost.flops += 2 * product({a.size(0), a.size(1), b.size(1)});
    cost.read_bytes += bytes(a, b, offsets);
  }
  return cost;
}

Cost GroupRows::cost() const {
  return {.flops = 0,
          .read_bytes = bytes(index),
          .write_bytes = bytes(offsets, place, entry, row)};
}

Cost PartitionRows::cost() const {
  return {.flops = 0,
          .read_bytes = bytes(index, owner),
          .write_bytes = bytes(counts, row, before, copy, place, kept)};
}

Cost GatherRows::cost() const {
  return {.flops = 0,
          .read_bytes = bytes(index) + row_bytes(source, index.elements()),
          .write_bytes = bytes(out)};
}

Cost ScatterAddRows::cost() const {
  const double touched = row_bytes(out, rows.size(0));
  return {.flops = elements(rows),
          .read_bytes = bytes(rows, index) + touched,
          .write_bytes = touched};
}

// A multiply and an add for each entry; without weights only the add.
Cost CombineRows::cost() const {
  const double terms = product({index.size(0), index.size(1), out.size(1)});
  return {.flops = (weight.defined() ? 2 : 1) * terms +
                   (accumulate ? elements(out) : 0) +
                   (residual.defined() ? elements(out) : 0),
          .read_bytes = bytes(index, weight, residual) +
                        row_bytes(source, index.elements()) +
                        (accumulate ? bytes(out) : 0),
          .write_bytes = bytes(out)};
}

// Per column: difference, exp, sum and quotient for the score, product, log
// and sum for the entropy, and the bias: 8. Per choice: sum, quotient, scale.
Cost TopK::cost() const {
  return {.flops = 8 * elements(logits) + 3 * elements(weights),
          .read_bytes = bytes(logits, bias, forced),
          .write_bytes =
              bytes(scores, probability, index, weights, log_sum_exp, entropy)};
}

// Per column: the inner product and its use in the adjoint of the score, the
// two losses: 9. Per choice: the adjoint of the weight, 5.
Cost TopKGradient::cost() const {
  const bool has_loss = d_probability.defined();
  return {.flops = 9 * elements(logits) + 5 * elements(d_weights),
          .read_bytes = bytes(scores, probability, index, log_sum_exp, logits,
                              d_weights, d_probability) +
                        (has_loss ? bytes(segment) : 0),
          .write_bytes = bytes(d_logits)};
}

Cost SegmentSums::cost() const {
  return {.flops = elements(x) + elements(index),
          .read_bytes = bytes(x, index, segment, sums, counts),
          .write_bytes = bytes(sums, counts)};
}

// f: 3, p: 1, product and sum: 2, d_probability: 2.
Cost BalanceLoss::cost() const {
  return {.flops = 8 * elements(sums),
          .read_bytes = bytes(sums, counts, length, loss),
          .write_bytes = bytes(d_probability, loss)};
}

Cost PairCounts::cost() const {
  return {.flops = 0,
          .read_bytes = bytes(first, second, counts),
          .write_bytes = bytes(counts)};
}

// Per element: square and sum, two products.
Cost RmsNorm::cost() const {
  return {.flops = (residual.defined() ? 5 : 4) * elements(x),
          .read_bytes = bytes(x, residual, weight),
          .write_bytes =
              bytes(out, inverse_rms) + (residual.defined() ? bytes(x) : 0)};
}

// Per element: n, g, g n and its sum, n times mean, difference, times
// inverse_rms, and for d_weight a product and a sum: 9.
Cost RmsNormGradient::cost() const {
  return {.flops = (accumulate ? 10 : 9) * elements(x),
          .read_bytes = bytes(d_out, x, weight, inverse_rms, d_weight) +
                        (accumulate ? bytes(d_x) : 0),
          .write_bytes = bytes(d_x, d_weight)};
}

// Per pair: four products, a sum and a difference.
Cost Rope::cost() const {
  return {.flops = 3 * elements(x),
          .read_bytes =
              bytes(x, position) + 2 * row_bytes(cosine, position.elements()),
          .write_bytes = bytes(x)};
}

// Two products of a row of queries with the keys it sees; the softmax between
// them is not counted.
Cost Attention::cost() const {
  return {.flops = 2 * product({key_pairs, q.size(1), q.size(2) + v.size(2)}),
          .read_bytes = bytes(q, k, v, first, last),
          .write_bytes = bytes(out, log_sum_exp)};
}

// Five products: scores and d_scores^T q, d_scores k over `size` channels,
// d_out v^T and p^T d_out over `value_size`.
Cost AttentionGradient::cost() const {
  const std::int64_t channels = 3 * q.size(2) + 2 * v.size(2);
  return {.flops = 2 * product({key_pairs, q.size(1), channels}),
          .read_bytes = bytes(q, k, v, first, out, log_sum_exp, d_out),
          .write_bytes = bytes(d_q, d_k, d_v)};
}

// Per element: exp, sum, quotient, times up. (The negation is free.)
Cost SwiGlu::cost() const {
  return {.flops = 4 * elements(out),
          .read_bytes = bytes(gate_up),
          .write_bytes = bytes(out)};
}

// Per element: sigmoid 3, silu 1, a 1, derivative of silu 3, d_gate 2,
// d_up 1; with weights another 2 products and the sum of d_weight, 2.
Cost SwiGluGradient::cost() const {
  return {.flops = (weight.defined() ? 15 : 11) * elements(d_out),
          .read_bytes = bytes(gate_up, d_out, weight),
          .write_bytes = bytes(d_gate_up, activation, d_weight)};
}

// Per element: difference, exp, sum; for the gradient a product with scale
// over the sum. The one-hot term is one more per row.
Cost CrossEntropy::cost() const {
  const bool backward = gradient.defined();
  return {.flops = (backward ? 4 : 3) * elements(logits) +
                   (backward ? 3 : 2) * elements(target),
          .read_bytes = bytes(logits, target),
          .write_bytes = bytes(loss, gradient)};
}

// Per element: g 1, m 3, v 4, bias corrections 2, root 1, sum 1, quotient 1,
// rate 1, decay 1, difference 1.
Cost AdamW::cost() const {
  return {.flops = 16 * elements(x),
          .read_bytes = bytes(x, gradient, m, v),
          .write_bytes = bytes(x, gradient, m, v, copy)};
}

Cost SumSquares::cost() const {
  return {.flops = 2 * elements(x),
          .read_bytes = bytes(x),
          .write_bytes = bytes(out)};
}

Cost Sum::cost() const {
  return {
      .flops = elements(x), .read_bytes = bytes(x), .write_bytes = bytes(out)};
}

Cost CountNonFinite::cost() const {
  return {.flops = 0, .read_bytes = bytes(x), .write_bytes = bytes(out)};
}

Cost Add::cost() const {
  return {.flops = elements(out),
          .read_bytes = bytes(a, b),
          .write_bytes = bytes(out)};
}

Cost Copy::cost() const {
  return {.flops = 0, .read_bytes = bytes(from), .write_bytes = bytes(to)};
}

Cost Fill::cost() const {
  return {.flops = 0, .read_bytes = 0, .write_bytes = bytes(x)};
}

Cost SumMiddle::cost() const {
  return {
      .flops = elements(x), .read_bytes = bytes(x), .write_bytes = bytes(out)};
}

KernelCount& Kernels::count(std::string_view name, const Cost& cost) {
  const auto add = [&cost](Cost& to) {
    to.flops += cost.flops;
    to.read_bytes += cost.read_bytes;
    to.write_bytes += cost.write_bytes;
  };
  std::size_t i = 0;
  while (i < size_ && counts_[i].name != name) ++i;
  CATENA_CHECK(i < counts_.size(), "[kernels] more than {} kernels",
               counts_.size());
  if (i == size_) {
    counts_[size_] = {};
    counts_[size_++].name = name;
  }
  ++counts_[i].calls;
  add(counts_[i].cost);
  add(total_);
  return counts_[i];
}

void Kernels::reset_counts() {
  total_ = {};
  size_ = 0;
}

}  // namespace catena
