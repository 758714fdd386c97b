#include "tests/support/kernel_testing.h"

namespace catena::testing {
namespace {

using AttentionTest = KernelTest;

struct Case {
  std::vector<std::int64_t> documents;  ///< lengths; rows = their sum
  std::int64_t heads, key_heads, size, value_size, padding;
};
const Case kCases[] = {{{}, 2, 1, 8, 8, 0},
                       {{1}, 1, 1, 4, 4, 0},
                       {{5, 1, 3}, 4, 2, 12, 4, 0},
                       {{64}, 2, 2, 16, 16, 3},
                       {{65, 31, 33}, 6, 2, 17, 33, 1},
                       {{129, 3}, 2, 1, 64, 64, 0},
                       {{200}, 2, 2, 24, 16, 5}};

std::int64_t rows_of(const Case& s) {
  std::int64_t rows = 0;
  for (const std::int64_t length : s.documents) rows += length;
  return rows;
}

/// First key of each row under the causal mask within documents.
Values first_of(const Case& s) {
  Values first;
  for (const std::int64_t length : s.documents) {
    first.insert(first.end(), static_cast<std::size_t>(length),
                 static_cast<double>(first.size()));
  }
  return first;
}

Values counting(std::int64_t count) {
  Values values;
  for (std::int64_t i = 0; i < count; ++i) {
    values.push_back(static_cast<double>(i));
  }
  return values;
}

/// Everything an attention call is given, as the element type holds it.
struct Problem {
  std::int64_t rows, keys, heads, key_heads, size, value_size;
  Values q, k, v, first, last;
  double scale;

  [[nodiscard]] double query(std::int64_t i, std::int64_t h,
                             std::int64_t c) const {
    return q[static_cast<std::size_t>((i * heads + h) * size + c)];
  }
  [[nodiscard]] double key(std::int64_t j, std::int64_t h,
                           std::int64_t c) const {
    return k[static_cast<std::size_t>((j * key_heads + shared(h)) * size + c)];
  }
  [[nodiscard]] double value(std::int64_t j, std::int64_t h,
                             std::int64_t c) const {
    return v[static_cast<std::size_t>((j * key_heads + shared(h)) * value_size +
                                      c)];
  }
  [[nodiscard]] std::int64_t shared(std::int64_t h) const {
    return h / (heads / key_heads);
  }
  [[nodiscard]] std::int64_t key_pairs() const {
    double pairs = 0;
    for (std::size_t i = 0; i < first.size(); ++i) {
      pairs += last[i] - first[i] + 1;
    }
    return static_cast<std::int64_t>(pairs);
  }
};

Problem self_attention(const Case& s, DType type) {
  const std::int64_t rows = rows_of(s);
  return {
      .rows = rows,
      .keys = rows,
      .heads = s.heads,
      .key_heads = s.key_heads,
      .size = s.size,
      .value_size = s.value_size,
      .q = rounded(type, random_values(rows * s.heads * s.size, 1)),
      .k = rounded(type, random_values(rows * s.key_heads * s.size, 2)),
      .v = rounded(type, random_values(rows * s.key_heads * s.value_size, 3)),
      .first = first_of(s),
      .last = counting(rows),
      .scale = 1 / std::sqrt(static_cast<double>(s.size))};
}

/// Weights of the keys of row i and head h, and log(sum(exp(score))).
Values weights_loop(const Problem& p, std::int64_t i, std::int64_t h,
                    double* log_sum_exp) {
  Values weights(static_cast<std::size_t>(p.keys));
  const auto first = static_cast<std::int64_t>(p.first[i]);
  const auto last = static_cast<std::int64_t>(p.last[i]);
  double sum = 0;
  for (std::int64_t j = first; j <= last; ++j) {
    double score = 0;
    for (std::int64_t c = 0; c < p.size; ++c) {
      score += p.query(i, h, c) * p.key(j, h, c);
    }
    weights[static_cast<std::size_t>(j)] = std::exp(p.scale * score);
    sum += weights[static_cast<std::size_t>(j)];
  }
  for (double& weight : weights) weight /= sum;
  *log_sum_exp = std::log(sum);
  return weights;
}

struct Result {
  Values out, log_sum_exp;
};

Result attention_loop(const Problem& p) {
  Result result{
      Values(static_cast<std::size_t>(p.rows * p.heads * p.value_size)),
      Values(static_cast<std::size_t>(p.heads * p.rows))};
  for (std::int64_t i = 0; i < p.rows; ++i) {
    for (std::int64_t h = 0; h < p.heads; ++h) {
      const Values weights = weights_loop(
          p, i, h,
          &result.log_sum_exp[static_cast<std::size_t>(h * p.rows + i)]);
      for (std::int64_t c = 0; c < p.value_size; ++c) {
        double& out = result.out[static_cast<std::size_t>(
            (i * p.heads + h) * p.value_size + c)];
        for (std::int64_t j = 0; j < p.keys; ++j) {
          out += weights[static_cast<std::size_t>(j)] * p.value(j, h, c);
        }
      }
    }
  }
  return result;
}

/// Tensors of a problem on a device.
struct Device {
  TestTensor q, k, v, first, last, out, log_sum_exp;

  Device(Backend& backend, DType type, const Problem& p, std::int64_t padding)
      : q(backend, type, {p.rows, p.heads, p.size}, p.q, padding),
        k(backend, type, {p.keys, p.key_heads, p.size}, p.k, padding),
        v(backend, type, {p.keys, p.key_heads, p.value_size}, p.v, padding),
        first(backend, DType::kInt32, {p.rows}, p.first),
        last(backend, DType::kInt32, {p.rows}, p.last),
        out(backend, type, {p.rows, p.heads, p.value_size}, padding),
        log_sum_exp(backend, wide(type), {p.heads, p.rows}) {
    backend.kernels()(Attention{.q = q,
                                .k = k,
                                .v = v,
                                .first = first,
                                .last = last,
                                .out = out,
                                .log_sum_exp = log_sum_exp,
                                .scale = p.scale,
                                .key_pairs = p.key_pairs()});
  }
};

void expect_attention(DType type, const Problem& p, std::int64_t padding) {
  const Device device(cpu(2), type, p, padding);
  const Result expected = attention_loop(p);
  const std::string what =
      fmt::format("{} rows, {} keys, {} heads of {}, {}", p.rows, p.keys,
                  p.heads, p.size, name(type));
  expect_close(device.out, expected.out, what);
  expect_close(device.log_sum_exp, expected.log_sum_exp, what);
}

TEST_P(AttentionTest, AgreesWithLoop) {
  for (const Case& s : kCases) {
    expect_attention(dtype(), self_attention(s, dtype()), s.padding);
  }
}

// Few queries at the end of many keys, each seeing all before it.
TEST_P(AttentionTest, FewQueriesSeeManyKeys) {
  for (const std::int64_t rows : {1, 3}) {
    Problem p = self_attention({{300}, 4, 2, 20, 12, 0}, dtype());
    p.rows = rows;
    p.q.resize(static_cast<std::size_t>(rows * 4 * 20));
    p.first.assign(static_cast<std::size_t>(rows), 0);
    p.last = counting(300);
    p.last.erase(p.last.begin(), p.last.end() - rows);
    expect_attention(dtype(), p, 0);
  }
}

TEST_P(AttentionTest, LargeScoresDoNotOverflow) {
  Problem p = self_attention({{90}, 1, 1, 16, 16, 0}, dtype());
  p.scale = 100;
  const Device device(cpu(1), dtype(), p, 0);
  for (const double value : device.out.values()) {
    ASSERT_TRUE(std::isfinite(value));
  }
}

/// d_q, d_k, d_v.
std::vector<Values> gradient_loop(const Problem& p, const Values& d_out) {
  Values d_q(p.q.size()), d_k(p.k.size()), d_v(p.v.size());
  for (std::int64_t i = 0; i < p.rows; ++i) {
    for (std::int64_t h = 0; h < p.heads; ++h) {
      double unused = 0;
      const Values weights = weights_loop(p, i, h, &unused);
      Values d_weight(weights.size());
      double mean = 0;
      for (std::int64_t j = 0; j < p.keys; ++j) {
        const auto at = static_cast<std::size_t>(j);
        for (std::int64_t c = 0; c < p.value_size; ++c) {
          const double d = d_out[static_cast<std::size_t>(
              (i * p.heads + h) * p.value_size + c)];
          d_weight[at] += d * p.value(j, h, c);
          d_v[static_cast<std::size_t>(
              (j * p.key_heads + p.shared(h)) * p.value_size + c)] +=
              weights[at] * d;
        }
        mean += weights[at] * d_weight[at];
      }
      for (std::int64_t j = 0; j < p.keys; ++j) {
        const auto at = static_cast<std::size_t>(j);
        const double d_score = p.scale * weights[at] * (d_weight[at] - mean);
        for (std::int64_t c = 0; c < p.size; ++c) {
          d_q[static_cast<std::size_t>((i * p.heads + h) * p.size + c)] +=
              d_score * p.key(j, h, c);
          d_k[static_cast<std::size_t>(
              (j * p.key_heads + p.shared(h)) * p.size + c)] +=
              d_score * p.query(i, h, c);
        }
      }
    }
  }
  return {d_q, d_k, d_v};
}

std::vector<Values> run_gradient(Backend& backend, DType type, const Problem& p,
                                 const Values& d_out, std::int64_t padding) {
  const Device device(backend, type, p, padding);
  const TestTensor upstream(backend, type, {p.rows, p.heads, p.value_size},
                            d_out, padding);
  const TestTensor d_q(backend, type, {p.rows, p.heads, p.size}, padding);
  const TestTensor d_k(backend, type, {p.rows, p.key_heads, p.size}, padding);
  const TestTensor d_v(backend, type, {p.rows, p.key_heads, p.value_size},
                       padding);
  backend.kernels()(AttentionGradient{.q = device.q,
                                      .k = device.k,
                                      .v = device.v,
                                      .first = device.first,
                                      .out = device.out,
                                      .log_sum_exp = device.log_sum_exp,
                                      .d_out = upstream,
                                      .d_q = d_q,
                                      .d_k = d_k,
                                      .d_v = d_v,
                                      .scale = p.scale,
                                      .key_pairs = p.key_pairs()});
  EXPECT_TRUE(d_q.padding_intact() && d_k.padding_intact() &&
              d_v.padding_intact());
  return {d_q.values(), d_k.values(), d_v.values()};
}

void expect_gradient(DType type, const Problem& p, std::int64_t padding) {
  const Values d_out =
      rounded(type, random_values(p.rows * p.heads * p.value_size, 4));
  const auto actual = run_gradient(cpu(2), type, p, d_out, padding);
  const auto expected = gradient_loop(p, d_out);
  for (std::size_t i = 0; i < 3; ++i) {
    // In bfloat16, delta is formed from outputs that were rounded.
    expect_close(actual[i], expected[i], 2 * tolerance(type),
                 fmt::format("gradient {} of {} rows, {} heads of {}", i,
                             p.rows, p.heads, p.size));
  }
}

void expect_gradient(DType type, const Case& s) {
  expect_gradient(type, self_attention(s, type), s.padding);
}

TEST_P(AttentionTest, GradientAgreesWithLoop) {
  for (const Case& s : kCases) expect_gradient(dtype(), s);
}

// Documents of several pieces, whose keys and queries meet across them.
TEST_P(AttentionTest, GradientOfLongDocumentsAgreesWithLoop) {
  expect_gradient(dtype(), Case{{30, 1100, 513}, 2, 1, 6, 5, 1});
}

// What a row sees need not begin with a document.
TEST_P(AttentionTest, GradientOfASlidingWindowAgreesWithLoop) {
  Problem p = self_attention({{700}, 2, 2, 6, 5, 0}, dtype());
  for (std::size_t i = 0; i < p.first.size(); ++i) {
    p.first[i] = std::max(0.0, static_cast<double>(i) - 70);
  }
  expect_gradient(dtype(), p, 0);
}

TEST_P(AttentionTest, AgreesWithLoopOnRandomShapes) {
  for_random_shapes([](Sizes& draw) {
    Case s{};
    s.documents.resize(static_cast<std::size_t>(draw(0, 4)));
    for (std::int64_t& length : s.documents) length = draw(0, 40);
    s.key_heads = draw(1, 3);
    s.heads = s.key_heads * draw(1, 3);
    s.size = draw(1, 40);
    s.value_size = draw(1, 40);
    s.padding = draw(0, 9);
    expect_attention(dtype(), self_attention(s, dtype()), s.padding);
    expect_gradient(dtype(), s);
  });
}

TEST(AttentionGradientTest, LoopIsTheDerivative) {
  const Case s{{3, 4}, 4, 2, 3, 5, 0};
  Problem p = self_attention(s, DType::kFloat64);
  const Values d_out = random_values(p.rows * p.heads * p.value_size, 4);
  const auto expected = run_gradient(cpu(1), DType::kFloat64, p, d_out, 0);
  Values* const inputs[] = {&p.q, &p.k, &p.v};
  for (std::size_t i = 0; i < 3; ++i) {
    const Values before = *inputs[i];
    const Values numeric = numeric_gradient(
        [&](const Values& point) {
          *inputs[i] = point;
          return dot(attention_loop(p).out, d_out);
        },
        before);
    *inputs[i] = before;
    expect_close(expected[i], numeric, kDifferenceTolerance,
                 fmt::format("input {}", i));
  }
}

TEST_P(AttentionTest, SameBitsForAnyThreads) {
  expect_same_for_any_threads([&](Backend& backend) {
    Values all;
    for (const Case& s : kCases) {
      const Problem p = self_attention(s, dtype());
      append(all, Device(backend, dtype(), p, 0).out.values());
      for (const Values& gradient :
           run_gradient(backend, dtype(), p,
                        random_values(p.rows * p.heads * p.value_size, 4), 0)) {
        append(all, gradient);
      }
    }
    return all;
  });
}

CATENA_FOR_FLOATING_TYPES(AttentionTest);

}  // namespace
}  // namespace catena::testing
