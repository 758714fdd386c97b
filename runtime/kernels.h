#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <functional>
#include <span>
#include <string_view>

#include "runtime/elementwise_kernels.h"
#include "runtime/kernel.h"
#include "runtime/tensor.h"

namespace catena {

// What holds for every kernel, such as what `T` and `W` are: kernel.h. Sums,
// copies and the like: elementwise_kernels.h.

/// c = op(a) op(b), or c += op(a) op(b); op is transposition where asked.
///   a [m, k] or [k, m], b [k, n] or [n, k]: one T;  c [m, n]: T or W
struct Gemm {
  TensorView a, b, c;
  bool transpose_a = false, transpose_b = false, accumulate = false;
  CATENA_KERNEL("gemm");
};

/// c[i] = a[i] op(b[g]) for the rows i of group g, offsets[g] <= i <
/// offsets[g + 1].
///   a [rows, k], b [groups, k, n] or, transposed, [groups, n, k]: one T
///   c [rows, n]: T or W;  offsets [groups + 1] int32, offsets[groups] = rows
struct GroupedGemm {
  TensorView a, b, c, offsets;
  bool transpose_b = false;
  CATENA_KERNEL("grouped_gemm");
};

/// c[g] += a_g^T b_g over the rows of each group of each part, part after part;
/// a group without rows leaves c[g] as it is. Several parts in one call fetch
/// c from memory once.
///   a [rows, m], b [rows, n]: one T;  offsets [groups + 1] int32: per part
///   c [groups, m, n]: W;  parts are borrowed
struct GroupedGemmGradient {
  struct Part {
    TensorView a, b, offsets;
  };
  std::span<const Part> parts;
  TensorView c;
  CATENA_KERNEL("grouped_gemm_gradient");
};

/// Stable counting sort of entries by group.
///   index [rows, k] int32: an entry's group is index, or map[index]; entries
///     of a group below 0 are left out
///   map [n] int32, or undefined
///   offsets [groups + 1] int32: first sorted place of each group
///   place [rows, k] int32: sorted place of each entry, -1 if left out
///   entry [rows * k] int32: the entry (row * k + slot) at each sorted place
///   row [rows * k] int32: entry / k; both are written up to offsets[groups]
/// Within a group, entries keep their order.
struct GroupRows {
  TensorView index, map, offsets, place, entry, row;
  CATENA_KERNEL("group_rows");
};

/// Row i is copied once to every part that owns at least one of index[i, 0] ..
/// index[i, k - 1], of which negative ones are left out. Copies are numbered
/// part by part, within a part by row. m = min(k, parts).
///   index [rows, k] int32;  owner [n] int32: the part that owns each index
///   counts [2, parts] int32: copies each part gets; and how many of the
///     indices it owns
///   row [rows * m] int32: the row of each copy, written up to their number
///   before [rows * m] int32: of each copy, how many indices the earlier
///     copies of its part have kept
///   copy [rows, m] int32: the row's copies, by part; -1 where there are fewer
///   place [rows, k] int32: copy * k + slot, the copy that index[i, slot] goes
///     with; or -1
///   kept [rows * m, k] int32: of each copy, index where its part owns it, -1
///     elsewhere
struct PartitionRows {
  TensorView index, owner, counts, row, before, copy, place, kept;
  CATENA_KERNEL("partition_rows");
};

/// out[i] = source[index[i]]; a negative index gives zeros.
///   source [n, columns], index [rows] int32, out [rows, columns]: one type,
///   or T and W in either order, converted
struct GatherRows {
  TensorView source, index, out;
  CATENA_KERNEL("gather_rows");
};

/// out[index[i]] += rows[i], for i ascending, so that the sum does not depend
/// on threads. Negative indices are left out.
///   rows [n, columns] T, index [n] int32, out [m, columns] W
struct ScatterAddRows {
  TensorView rows, index, out;
  CATENA_KERNEL("scatter_add_rows");
};

/// out[i] = sum_j weight[i, j] * source[index[i, j]] (+ out[i])
///          (+ residual[i]), j ascending;
/// an undefined weight is 1; negative indices are left out.
///   source [m, columns] T or W, index [rows, k] int32, weight [rows, k] W,
///   out [rows, columns] T or W, residual [rows, columns] as out or undefined
struct CombineRows {
  TensorView source, index, weight, residual, out;
  bool accumulate = false;
  CATENA_KERNEL("combine_rows");
};

enum class Score { kSoftmax, kSigmoid };
enum class GroupScore { kMax, kTopTwoSum };

/// How columns are scored and chosen, for TopK and its gradient.
struct TopKRule {
  Score score = Score::kSoftmax;
  std::int64_t k = 1;
  /// Columns fall into `groups` equal runs; only the best `top_groups` runs
  /// may be chosen from. groups = 1 is plain top-k.
  std::int64_t groups = 1, top_groups = 1;
  GroupScore group_score = GroupScore::kMax;
  bool renormalize = false;  ///< weights / (their sum over the k + 1e-20)
  double scale = 1;          ///< weights times this, after renormalising
};

/// Scores every column of a row and chooses k.
///   score: softmax over the row, or sigmoid
///   probability = score / sum(score)   (the score itself for softmax)
///   choice: largest score + bias; ties go to the lowest column
///   weights[j] = scale * score[index[j]] (/ sum_j score[index[j]])
/// With `forced`, index is a copy of it and only weights are computed.
///   logits [rows, columns] W;  bias [columns] W or undefined
///   forced [rows, k] int32 or undefined
///   scores, probability [rows, columns] W (may be the same for softmax)
///   index [rows, k] int32, by falling score;  weights [rows, k] W
///   log_sum_exp [rows] W, of the logits
///   entropy [rows] W, of probability, in nats
struct TopK {
  TopKRule rule;
  TensorView logits, bias, forced;
  TensorView scores, probability, index, weights, log_sum_exp, entropy;
  CATENA_KERNEL("top_k");
};

/// Adjoint of TopK with the two losses on its scores:
///   d_logits = d/d_logits of [ <d_weights, weights>
///              + sum_i <d_probability[segment[i]], probability[i]>
///              + z_coefficient * sum_i log_sum_exp[i]^2 ]
///   d_weights [rows, k] W;  d_probability [segments, columns] W or undefined
///   segment [rows] int32;  d_logits [rows, columns] W, overwritten
struct TopKGradient {
  TopKRule rule;
  TensorView scores, probability, index, log_sum_exp, logits;
  TensorView d_weights, d_probability, segment;
  double z_coefficient = 0;
  TensorView d_logits;
  CATENA_KERNEL("top_k_gradient");
};

/// sums[s] += sum of x[i], counts[s, c] += number of times c is in index[i],
/// over the rows i with segment[i] = s, in row order.
///   x [rows, columns] W, index [rows, k] int32, segment [rows] int32
///   sums, counts [segments, columns] W
struct SegmentSums {
  TensorView x, index, segment, sums, counts;
  CATENA_KERNEL("segment_sums");
};

/// Balance of choices against probabilities, per segment s of length n_s:
///   f[s, c] = counts[s, c] * columns / (n_s * k),  p[s, c] = sums[s, c] / n_s
///   loss += coefficient * sum_s,c f p
///   d_probability[s, c] = coefficient * f[s, c] / n_s
/// Empty segments add nothing.
///   sums, counts, d_probability [segments, columns] W
///   length [segments] W;  loss [1] W
/// Source: reference auxiliary loss (arXiv 2405.04434, section 2.2.3).
struct BalanceLoss {
  TensorView sums, counts, length, d_probability, loss;
  std::int64_t k = 1;
  double coefficient = 0;
  CATENA_KERNEL("balance_loss");
};

/// counts[a, b] += number of (i, j, l) with first[i, j] = a, second[i, l] = b.
///   first, second [rows, k] int32;  counts [columns, columns] int64
struct PairCounts {
  TensorView first, second, counts;
  CATENA_KERNEL("pair_counts");
};

/// x += residual, where defined; then out = x / sqrt(mean(x^2) + epsilon) *
/// weight, each row.
///   x, residual, out [rows, columns] T;  weight [columns] W
///   inverse_rms [rows] W: 1 / sqrt(...), kept for the gradient
/// Source: arXiv 1910.07467, eq. 4.
struct RmsNorm {
  TensorView x, residual, weight, out, inverse_rms;
  double epsilon = 1e-6;
  CATENA_KERNEL("rms_norm");
};

/// With n = x * inverse_rms and g = d_out * weight:
///   d_x = inverse_rms * (g - n * mean(g n))   (+ d_x if accumulate)
///   d_weight += sum over rows of d_out * n
///   d_out, x, d_x [rows, columns] T;  d_weight [columns] W
/// d_x may be d_out.
struct RmsNormGradient {
  TensorView d_out, x, weight, inverse_rms, d_x, d_weight;
  bool accumulate = false;
  CATENA_KERNEL("rms_norm_gradient");
};

/// Turns pairs of channels by position-dependent angles, in place:
///   (a, b) -> (a cos - b sin, a sin + b cos);  inverse: sin -> -sin
/// Pair i is channels (2i, 2i + 1) if interleaved, else (i, i + size / 2).
///   x [rows, heads, size] T, strided;  position [rows] int32
///   cosine, sine [positions, size / 2] W
struct Rope {
  TensorView x, position, cosine, sine;
  bool interleaved = false, inverse = false;
  CATENA_KERNEL("rope");
};

/// Softmax attention of row i over the keys first[i] .. last[i], both
/// inclusive, per head; query head h uses key head h / (heads / key_heads).
///   p = softmax_j(scale * <q[i, h], k[j]>),  out[i, h] = sum_j p_j v[j]
///   q [rows, heads, size], k [keys, key_heads, size],
///   v [keys, key_heads, value_size], out [rows, heads, value_size]: T, may be
///   strided in the outer two dimensions
///   first, last [rows] int32, first[i] <= last[i], both ascending in i
///   log_sum_exp [heads, rows] W
/// key_pairs: sum of last[i] - first[i] + 1 over rows; costs are counted from
/// it, since the ranges may live on a device.
struct Attention {
  TensorView q, k, v, first, last, out, log_sum_exp;
  double scale = 1;
  std::int64_t key_pairs = 0;
  CATENA_KERNEL("attention");
};

/// Adjoint of Attention; d_q, d_k, d_v are overwritten. Requires rows = keys
/// and last[i] = i (causal self-attention).
struct AttentionGradient {
  TensorView q, k, v, first, out, log_sum_exp, d_out;
  TensorView d_q, d_k, d_v;
  double scale = 1;
  std::int64_t key_pairs = 0;
  CATENA_KERNEL("attention_gradient");
};

/// out = silu(gate) * up, silu(z) = z / (1 + exp(-z)).
///   gate_up [rows, 2 * columns] T, gate first;  out [rows, columns] T
struct SwiGlu {
  TensorView gate_up, out;
  CATENA_KERNEL("swiglu");
};

/// Adjoint of rows of weight[i] * SwiGlu(gate_up[i]), given the gradient
/// before the weight was applied (an undefined weight is 1):
///   a = silu(gate) * up;   activation = weight * a
///   d_weight[i] = <d_out[i], a[i]>
///   d_gate_up = adjoint of SwiGlu at weight * d_out
///   d_out, activation [rows, columns] T;  d_gate_up [rows, 2 * columns] T
///   weight, d_weight [rows] W or both undefined
/// activation may be d_out; d_gate_up may be gate_up.
struct SwiGluGradient {
  TensorView gate_up, d_out, weight, d_gate_up, activation, d_weight;
  CATENA_KERNEL("swiglu_gradient");
};

/// loss[i] = log(sum_c exp(logits[i, c])) - logits[i, target[i]], and, where
/// gradient is defined, gradient[i] = scale * (softmax(logits[i]) - onehot).
/// A negative target gives loss 0 and a zero gradient.
///   logits [rows, columns] W;  target [rows] int32;  loss [rows] W
///   gradient [rows, columns] T; may be the logits if T = W
struct CrossEntropy {
  TensorView logits, target, loss, gradient;
  double scale = 1;
  CATENA_KERNEL("cross_entropy");
};

/// One step of AdamW with decoupled decay on one tensor, g = gradient *
/// gradient_scale, t = step counted from 1:
///   m = beta1 m + (1 - beta1) g;  v = beta2 v + (1 - beta2) g^2
///   x = x (1 - rate * decay)
///       - rate * (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + epsilon)
///   gradient = 0
///   x, gradient, m, v [n] W;  copy [n] bfloat16, x rounded, or undefined
/// Source: arXiv 1711.05101, algorithm 2.
struct AdamW {
  TensorView x, gradient, m, v, copy;
  double rate = 0, beta1 = 0.9, beta2 = 0.95, epsilon = 1e-8, decay = 0;
  double gradient_scale = 1;
  std::int64_t step = 1;
  CATENA_KERNEL("adamw");
};

/// Counters of one kind of kernel.
struct KernelCount {
  std::string_view name;
  std::int64_t calls = 0;
  Cost cost;
  double seconds = 0;  ///< until run() returned, or as modelled
};

/// Seconds that a call would take where nothing is computed.
using KernelModel = std::function<double(std::string_view kernel, const Cost&)>;

/// The kernels of a backend. Calls are checked and counted here, so that every
/// backend, meta included, agrees on both; the overloads of run() compute.
/// Order: calls take effect in the order they are made.
/// Thread rule: one thread at a time; a backend uses its own workers inside.
class Kernels {
 public:
  virtual ~Kernels() = default;

  template <class Kernel>
  void operator()(const Kernel& kernel) {
    kernel.check();
    const Cost cost = kernel.cost();
    KernelCount& counter = count(Kernel::kName, cost);
    const auto begin = std::chrono::steady_clock::now();
    run(kernel);
    const std::chrono::duration<double> took =
        std::chrono::steady_clock::now() - begin;
    const double seconds = model_ ? model_(Kernel::kName, cost) : took.count();
    counter.seconds += seconds;
    seconds_ += seconds;
  }

  /// Of all calls, ever.
  [[nodiscard]] double seconds() const { return seconds_; }

  [[nodiscard]] const Cost& total() const { return total_; }
  /// Ordered by first use; `size` entries are valid.
  [[nodiscard]] const KernelCount* begin() const { return counts_.data(); }
  [[nodiscard]] const KernelCount* end() const {
    return counts_.data() + size_;
  }
  void reset_counts();

 protected:
  virtual void run(const Gemm&) = 0;
  virtual void run(const GroupedGemm&) = 0;
  virtual void run(const GroupedGemmGradient&) = 0;
  virtual void run(const GroupRows&) = 0;
  virtual void run(const PartitionRows&) = 0;
  virtual void run(const GatherRows&) = 0;
  virtual void run(const ScatterAddRows&) = 0;
  virtual void run(const CombineRows&) = 0;
  virtual void run(const TopK&) = 0;
  virtual void run(const TopKGradient&) = 0;
  virtual void run(const SegmentSums&) = 0;
  virtual void run(const BalanceLoss&) = 0;
  virtual void run(const PairCounts&) = 0;
  virtual void run(const RmsNorm&) = 0;
  virtual void run(const RmsNormGradient&) = 0;
  virtual void run(const Rope&) = 0;
  virtual void run(const Attention&) = 0;
  virtual void run(const AttentionGradient&) = 0;
  virtual void run(const SwiGlu&) = 0;
  virtual void run(const SwiGluGradient&) = 0;
  virtual void run(const CrossEntropy&) = 0;
  virtual void run(const AdamW&) = 0;
  virtual void run(const SumSquares&) = 0;
  virtual void run(const Sum&) = 0;
  virtual void run(const CountNonFinite&) = 0;
  virtual void run(const Add&) = 0;
  virtual void run(const Copy&) = 0;
  virtual void run(const Fill&) = 0;
  virtual void run(const SumMiddle&) = 0;

 protected:
  KernelModel model_;

 private:
  KernelCount& count(std::string_view name, const Cost& cost);

  Cost total_;
  std::array<KernelCount, 32> counts_;
  std::size_t size_ = 0;
  double seconds_ = 0;
};

}  // namespace catena
