#include "runtime/kernels.h"

#include "runtime/kernel_checker.h"

namespace catena {
namespace {

void check_rule(const KernelChecker& checker, const TopKRule& rule,
                const TensorView& logits) {
  const std::int64_t columns = logits.size(1);
  CATENA_CHECK(rule.groups >= 1 && columns % rule.groups == 0,
               "[top_k] {} columns in {} equal groups", columns, rule.groups);
  CATENA_CHECK(rule.top_groups >= 1 && rule.top_groups <= rule.groups,
               "[top_k] best {} of {} groups", rule.top_groups, rule.groups);
  const std::int64_t run = columns / rule.groups;
  CATENA_CHECK(rule.k >= 1 && rule.k <= run * rule.top_groups,
               "[top_k] {} choices from {} groups of {} columns", rule.k,
               rule.top_groups, run);
  checker.holds(rule.groups == 1 ||
                    rule.group_score != GroupScore::kTopTwoSum || run >= 2,
                "groups of two columns or more for the sum of the best two");
}

}  // namespace

void Gemm::check() const {
  const KernelChecker checker(kName);
  checker.activation("a", a, 2);
  checker.activation("c", c, 2);
  const std::int64_t m = a.size(transpose_a ? 1 : 0);
  const std::int64_t k = a.size(transpose_a ? 0 : 1);
  const std::int64_t n = c.size(1);
  checker.exactly("b", b, a.dtype(), transpose_b ? Shape{n, k} : Shape{k, n});
  checker.either("c", c, a.dtype(), {m, n});
}

void GroupedGemm::check() const {
  const KernelChecker checker(kName);
  checker.activation("a", a, 2);
  checker.activation("c", c, 2);
  checker.offsets("offsets", offsets);
  const std::int64_t groups = offsets.size(0) - 1;
  const std::int64_t k = a.size(1), n = c.size(1);
  checker.exactly("b", b, a.dtype(),
                  transpose_b ? Shape{groups, n, k} : Shape{groups, k, n});
  checker.either("c", c, a.dtype(), {a.size(0), n});
}

void GroupedGemmGradient::check() const {
  const KernelChecker checker(kName);
  checker.holds(!parts.empty(), "at least one part");
  for (const Part& part : parts) {
    const TensorView &a = part.a, &b = part.b;
    checker.activation("a", a, 2);
    checker.activation("b", b, 2);
    checker.offsets("offsets", part.offsets);
    checker.exactly("b", b, a.dtype(), {a.size(0), b.size(1)});
    checker.exactly("c", c, wide(a.dtype()),
                    {part.offsets.size(0) - 1, a.size(1), b.size(1)});
  }
  checker.distinct("c", c);
}

void GroupRows::check() const {
  const KernelChecker checker(kName);
  checker.indices("index", index);
  checker.offsets("offsets", offsets);
  checker.exactly("place", place, DType::kInt32, index.shape());
  const Shape entries{index.shape().elements()};
  checker.exactly("entry", entry, DType::kInt32, entries);
  checker.exactly("row", row, DType::kInt32, entries);
  if (map.defined()) {
    checker.exactly("map", map, DType::kInt32, {map.shape().elements()});
  }
}

void PartitionRows::check() const {
  const KernelChecker checker(kName);
  checker.indices("index", index);
  checker.exactly("owner", owner, DType::kInt32, {owner.shape().elements()});
  checker.indices("counts", counts);
  checker.exactly("counts", counts, DType::kInt32, {2, counts.size(1)});
  const std::int64_t most = std::min(index.size(1), counts.size(1));
  checker.exactly("row", row, DType::kInt32, {index.size(0) * most});
  checker.exactly("before", before, DType::kInt32, {index.size(0) * most});
  checker.exactly("copy", copy, DType::kInt32, {index.size(0), most});
  checker.exactly("place", place, DType::kInt32, index.shape());
  checker.exactly("kept", kept, DType::kInt32,
                  {index.size(0) * most, index.size(1)});
}

void GatherRows::check() const {
  const KernelChecker checker(kName);
  checker.dimensions("source", source, 2, 2);
  checker.rows_apart("source", source);
  checker.dimensions("index", index, 1, 1);
  checker.exactly("index", index, DType::kInt32, {index.size(0)});
  checker.converted("out", out, source.dtype(),
                    {index.size(0), source.size(1)});
}

void ScatterAddRows::check() const {
  const KernelChecker checker(kName);
  checker.activation("rows", rows, 2);
  checker.activation("out", out, 2);
  checker.exactly("index", index, DType::kInt32, {rows.size(0)});
  checker.exactly("out", out, wide(rows.dtype()), {out.size(0), rows.size(1)});
}

void CombineRows::check() const {
  const KernelChecker checker(kName);
  checker.activation("source", source, 2);
  checker.indices("index", index);
  checker.optional("weight", weight, wide(source.dtype()), index.shape());
  checker.converted("out", out, source.dtype(),
                    {index.size(0), source.size(1)});
  checker.optional("residual", residual, out.dtype(), out.shape());
}

void TopK::check() const {
  const KernelChecker checker(kName);
  checker.activation("logits", logits, 2);
  check_rule(checker, rule, logits);
  const DType type = wide(logits.dtype());
  const Shape rows{logits.size(0)};
  const Shape choices{logits.size(0), rule.k};
  checker.exactly("logits", logits, type, logits.shape());
  checker.optional("bias", bias, type, {logits.size(1)});
  checker.optional("forced", forced, DType::kInt32, choices);
  checker.exactly("scores", scores, type, logits.shape());
  checker.exactly("probability", probability, type, logits.shape());
  checker.holds(rule.score == Score::kSoftmax ||
                    scores.data() != probability.data() || scores.empty(),
                "scores and probability apart for sigmoid");
  checker.exactly("index", index, DType::kInt32, choices);
  checker.exactly("weights", weights, type, choices);
  checker.exactly("log_sum_exp", log_sum_exp, type, rows);
  checker.exactly("entropy", entropy, type, rows);
}

void TopKGradient::check() const {
  const KernelChecker checker(kName);
  checker.activation("logits", logits, 2);
  check_rule(checker, rule, logits);
  const DType type = wide(logits.dtype());
  const std::int64_t rows = logits.size(0), columns = logits.size(1);
  checker.exactly("logits", logits, type, logits.shape());
  checker.exactly("scores", scores, type, logits.shape());
  checker.exactly("probability", probability, type, logits.shape());
  checker.exactly("index", index, DType::kInt32, {rows, rule.k});
  checker.exactly("log_sum_exp", log_sum_exp, type, {rows});
  checker.exactly("d_weights", d_weights, type, {rows, rule.k});
  checker.exactly("d_logits", d_logits, type, logits.shape());
  if (!d_probability.defined()) return;
  checker.activation("d_probability", d_probability, 2);
  checker.exactly("d_probability", d_probability, type,
                  {d_probability.size(0), columns});
  checker.exactly("segment", segment, DType::kInt32, {rows});
}

void SegmentSums::check() const {
  const KernelChecker checker(kName);
  checker.activation("x", x, 2);
  checker.activation("sums", sums, 2);
  checker.indices("index", index);
  const DType type = wide(x.dtype());
  const Shape table{sums.size(0), x.size(1)};
  checker.exactly("x", x, type, x.shape());
  checker.exactly("index", index, DType::kInt32, {x.size(0), index.size(1)});
  checker.exactly("segment", segment, DType::kInt32, {x.size(0)});
  checker.exactly("sums", sums, type, table);
  checker.exactly("counts", counts, type, table);
}

void BalanceLoss::check() const {
  const KernelChecker checker(kName);
  checker.activation("sums", sums, 2);
  const DType type = wide(sums.dtype());
  checker.exactly("sums", sums, type, sums.shape());
  checker.exactly("counts", counts, type, sums.shape());
  checker.exactly("d_probability", d_probability, type, sums.shape());
  checker.exactly("length", length, type, {sums.size(0)});
  checker.exactly("loss", loss, type, {1});
  checker.holds(k >= 1, "k of at least 1");
}

void PairCounts::check() const {
  const KernelChecker checker(kName);
  checker.indices("first", first);
  checker.exactly("second", second, DType::kInt32, first.shape());
  checker.dimensions("counts", counts, 2, 2);
  checker.exactly("counts", counts, DType::kInt64,
                  {counts.size(0), counts.size(0)});
}

void RmsNorm::check() const {
  const KernelChecker checker(kName);
  checker.activation("x", x, 2);
  const DType type = wide(x.dtype());
  checker.optional("residual", residual, x.dtype(), x.shape());
  checker.exactly("weight", weight, type, {x.size(1)});
  checker.exactly("out", out, x.dtype(), x.shape());
  checker.exactly("inverse_rms", inverse_rms, type, {x.size(0)});
  checker.holds(epsilon >= 0, "epsilon of at least 0");
}

void RmsNormGradient::check() const {
  const KernelChecker checker(kName);
  checker.activation("x", x, 2);
  const DType type = wide(x.dtype());
  checker.exactly("d_out", d_out, x.dtype(), x.shape());
  checker.exactly("weight", weight, type, {x.size(1)});
  checker.exactly("inverse_rms", inverse_rms, type, {x.size(0)});
  checker.exactly("d_x", d_x, x.dtype(), x.shape());
  checker.exactly("d_weight", d_weight, type, {x.size(1)});
}

void Rope::check() const {
  const KernelChecker checker(kName);
  checker.activation("x", x, 3);
  checker.distinct("x", x);
  checker.holds(x.size(2) % 2 == 0, "an even number of channels");
  checker.exactly("position", position, DType::kInt32, {x.size(0)});
  checker.activation("cosine", cosine, 2);
  const Shape table{cosine.size(0), x.size(2) / 2};
  checker.exactly("cosine", cosine, wide(x.dtype()), table);
  checker.exactly("sine", sine, wide(x.dtype()), table);
}

void Attention::check() const {
  const KernelChecker checker(kName);
  checker.activation("q", q, 3);
  checker.activation("k", k, 3);
  checker.activation("v", v, 3);
  const std::int64_t rows = q.size(0), heads = q.size(1);
  const std::int64_t keys = k.size(0), key_heads = k.size(1);
  checker.exactly("k", k, q.dtype(), {keys, key_heads, q.size(2)});
  checker.exactly("v", v, q.dtype(), {keys, key_heads, v.size(2)});
  checker.exactly("out", out, q.dtype(), {rows, heads, v.size(2)});
  checker.distinct("out", out);
  checker.exactly("first", first, DType::kInt32, {rows});
  checker.exactly("last", last, DType::kInt32, {rows});
  checker.exactly("log_sum_exp", log_sum_exp, wide(q.dtype()), {heads, rows});
  checker.holds(key_heads >= 1 && heads % key_heads == 0,
                "query heads to be a multiple of key heads");
  checker.holds(key_pairs >= 0, "key_pairs of at least 0");
}

void AttentionGradient::check() const {
  const KernelChecker checker(kName);
  checker.activation("q", q, 3);
  checker.activation("k", k, 3);
  checker.activation("v", v, 3);
  const std::int64_t rows = q.size(0), heads = q.size(1);
  const std::int64_t key_heads = k.size(1);
  checker.exactly("k", k, q.dtype(), {rows, key_heads, q.size(2)});
  checker.exactly("v", v, q.dtype(), {rows, key_heads, v.size(2)});
  checker.exactly("out", out, q.dtype(), {rows, heads, v.size(2)});
  checker.exactly("d_out", d_out, q.dtype(), out.shape());
  checker.exactly("first", first, DType::kInt32, {rows});
  checker.exactly("log_sum_exp", log_sum_exp, wide(q.dtype()), {heads, rows});
  checker.exactly("d_q", d_q, q.dtype(), q.shape());
  checker.exactly("d_k", d_k, q.dtype(), k.shape());
  checker.exactly("d_v", d_v, q.dtype(), v.shape());
  checker.distinct("d_q", d_q);
  checker.distinct("d_k", d_k);
  checker.distinct("d_v", d_v);
  checker.holds(key_heads >= 1 && heads % key_heads == 0,
                "query heads to be a multiple of key heads");
  checker.holds(key_pairs >= 0, "key_pairs of at least 0");
}

void SwiGlu::check() const {
  const KernelChecker checker(kName);
  checker.activation("out", out, 2);
  checker.exactly("gate_up", gate_up, out.dtype(),
                  {out.size(0), 2 * out.size(1)});
}

void SwiGluGradient::check() const {
  const KernelChecker checker(kName);
  checker.activation("d_out", d_out, 2);
  const std::int64_t rows = d_out.size(0), columns = d_out.size(1);
  const DType type = d_out.dtype();
  checker.exactly("gate_up", gate_up, type, {rows, 2 * columns});
  checker.exactly("d_gate_up", d_gate_up, type, {rows, 2 * columns});
  checker.exactly("activation", activation, type, {rows, columns});
  checker.optional("weight", weight, wide(type), {rows});
  checker.optional("d_weight", d_weight, wide(type), {rows});
  checker.holds(weight.defined() == d_weight.defined(),
                "weight and d_weight both or neither");
}

void CrossEntropy::check() const {
  const KernelChecker checker(kName);
  checker.activation("logits", logits, 2);
  const DType type = wide(logits.dtype());
  checker.exactly("logits", logits, type, logits.shape());
  checker.exactly("target", target, DType::kInt32, {logits.size(0)});
  checker.exactly("loss", loss, type, {logits.size(0)});
  if (!gradient.defined()) return;
  checker.activation("gradient", gradient, 2);
  CATENA_CHECK(wide(gradient.dtype()) == type,
               "[{}] gradient is {}, but logits are {}", kName,
               name(gradient.dtype()), name(type));
  checker.exactly("gradient", gradient, gradient.dtype(), logits.shape());
}

void AdamW::check() const {
  const KernelChecker checker(kName);
  checker.activation("x", x, 1);
  const DType type = wide(x.dtype());
  checker.exactly("x", x, type, x.shape());
  checker.exactly("gradient", gradient, type, x.shape());
  checker.exactly("m", m, type, x.shape());
  checker.exactly("v", v, type, x.shape());
  checker.optional("copy", copy, DType::kBFloat16, x.shape());
  CATENA_CHECK(step >= 1, "[{}] step {}, counted from 1", kName, step);
}

void SumSquares::check() const {
  const KernelChecker checker(kName);
  checker.activation("x", x, x.defined() ? x.dimensions() : 1);
  checker.contiguous("x", x);
  checker.exactly("out", out, DType::kFloat64, {1});
}

void Sum::check() const {
  const KernelChecker checker(kName);
  checker.activation("x", x, x.defined() ? x.dimensions() : 1);
  checker.contiguous("x", x);
  checker.exactly("out", out, DType::kFloat64, {1});
}

void CountNonFinite::check() const {
  const KernelChecker checker(kName);
  checker.dimensions("x", x, 1, 3);
  checker.activation("x", x, x.dimensions());
  checker.exactly("out", out, DType::kInt64, {1});
}

void Add::check() const {
  const KernelChecker checker(kName);
  checker.dimensions("a", a, 1, 2);
  checker.activation("a", a, a.dimensions());
  checker.exactly("b", b, a.dtype(), a.shape());
  checker.exactly("out", out, a.dtype(), a.shape());
}

void Copy::check() const {
  const KernelChecker checker(kName);
  checker.dimensions("from", from, 1, 3);
  CATENA_CHECK(to.shape() == from.shape(), "[{}] {} copied to {}", kName,
               from.shape().text(), to.shape().text());
  CATENA_CHECK(from.dtype() == to.dtype() ||
                   (is_floating(from.dtype()) && is_floating(to.dtype())),
               "[{}] {} cannot become {}", kName, name(from.dtype()),
               name(to.dtype()));
  checker.distinct("to", to);
}

void Fill::check() const {
  const KernelChecker checker(kName);
  checker.dimensions("x", x, 1, 3);
}

void SumMiddle::check() const {
  const KernelChecker checker(kName);
  checker.activation("x", x, 3);
  checker.exactly("out", out, x.dtype(), {x.size(0), x.size(2)});
  checker.distinct("out", out);
}

}  // namespace catena
