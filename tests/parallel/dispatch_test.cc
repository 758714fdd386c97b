#include "parallel/dispatch.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "tests/parallel/routing.h"

namespace catena::testing {
namespace {

Routing random_routing() {
  Routing r;
  r.tokens = *rc::gen::inRange<std::int64_t>(0, 40);
  r.experts = *rc::gen::inRange<std::int64_t>(1, 12);
  r.top_k = *rc::gen::inRange<std::int64_t>(1, r.experts + 1);
  r.hidden = *rc::gen::inRange<std::int64_t>(1, 20);
  const auto stream = *rc::gen::arbitrary<std::uint16_t>();
  for (std::int64_t t = 0; t < r.tokens; ++t) {
    const Permutation order(static_cast<std::uint64_t>(r.experts), stream,
                            static_cast<std::uint64_t>(t));
    for (std::int64_t j = 0; j < r.top_k; ++j) {
      r.index.push_back(
          static_cast<double>(order.at(static_cast<std::uint64_t>(j))));
    }
  }
  r.weight = random_values(r.tokens * r.top_k, stream);
  return r;
}

Values read_values(TensorView view) {
  const auto* data = view.as<double>();
  return {data, data + view.elements()};
}

/// Dispatch of one routing, in float64, on vectors.
class Exchange {
 public:
  explicit Exchange(const Routing& routing)
      : r_(routing),
        keep_(cpu(1)),
        scratch_(cpu(1)),
        dispatch_(cpu(1).kernels(), nullptr, {}),
        index_(cpu(1), DType::kInt32, {r_.tokens, r_.top_k}, r_.index),
        weight_(choices(r_.weight)) {
    dispatch(Values(static_cast<std::size_t>(r_.tokens * r_.hidden), 0.0),
             r_.weight);
  }

  [[nodiscard]] const DispatchRound& plan() const { return plan_.main; }
  [[nodiscard]] Values integers(TensorView view) const {
    const auto* data = view.as<std::int32_t>();
    return {data, data + view.elements()};
  }

  /// -> rows and weights as the experts receive them
  std::pair<Values, Values> dispatch(const Values& x, const Values& weight) {
    const TestTensor from = tokens(x);
    weight_.set(weight);
    make_plan(dispatch_, frames_, from, index_, weight_, r_.experts, keep_,
              scratch_, plan_);
    EXPECT_TRUE(dispatch_.dispatch(plan_, plan_.main, scratch_).ready());
    dispatch_.receive(plan_, plan_.main, keep_, scratch_);
    return {read_values(plan_.main.received),
            read_values(plan_.main.received_weight)};
  }
  Values combine(const Values& result, const Values& weight,
                 const Values* onto = nullptr,
                 const Values* residual = nullptr) {
    const TestTensor from = received(result);
    weight_.set(weight);
    const TestTensor to = tokens(onto != nullptr ? *onto : Values());
    const TestTensor added = tokens(residual != nullptr ? *residual : Values());
    EXPECT_TRUE(dispatch_.combine(plan_, plan_.main, from, scratch_).ready());
    dispatch_.add_results(plan_, from, to, onto != nullptr,
                          residual != nullptr ? added.view() : TensorView());
    return to.values();
  }
  Values combine_gradient(const Values& d_out) {
    const TestTensor from = tokens(d_out), to = received({});
    dispatch_.plan_gradient(plan_, from, scratch_);
    EXPECT_TRUE(
        dispatch_.combine_gradient(plan_, plan_.main, scratch_).ready());
    dispatch_.receive_gradient(plan_.main, to);
    return to.values();
  }
  std::pair<Values, Values> dispatch_gradient(
      const Values& d_received, const Values& d_weight,
      const Values* onto = nullptr, const Values* residual = nullptr) {
    const TestTensor from = received(d_received);
    const TestTensor from_weight = received_weight(d_weight);
    const TestTensor to = tokens(onto != nullptr ? *onto : Values());
    const TestTensor to_weight = choices({});
    const TestTensor added = tokens(residual != nullptr ? *residual : Values());
    EXPECT_TRUE(
        dispatch_
            .dispatch_gradient(plan_, plan_.main, from, from_weight, scratch_)
            .ready());
    dispatch_.add_gradients(plan_, from, from_weight, to, onto != nullptr,
                            residual != nullptr ? added.view() : TensorView(),
                            to_weight);
    return {to.values(), to_weight.values()};
  }

 private:
  static TestTensor tensor(const Shape& shape, const Values& values) {
    TestTensor result(cpu(1), DType::kFloat64, shape);
    if (!values.empty()) result.set(values);
    return result;
  }
  [[nodiscard]] TestTensor tokens(const Values& values) const {
    return tensor({r_.tokens, r_.hidden}, values);
  }
  [[nodiscard]] TestTensor choices(const Values& values) const {
    return tensor({r_.tokens, r_.top_k}, values);
  }
  [[nodiscard]] TestTensor received(const Values& values) const {
    return tensor({plan_.main.rows, r_.hidden}, values);
  }
  [[nodiscard]] TestTensor received_weight(const Values& values) const {
    return tensor({plan_.main.rows}, values);
  }

  Routing r_;
  Arena keep_, scratch_;
  FrameMemory frames_;
  Dispatch dispatch_;
  TestTensor index_, weight_;
  DispatchPlan plan_;
};

RC_GTEST_PROP(DispatchTest, PlansEveryChoiceOnceAndByExpert, ()) {
  const Routing r = random_routing();
  Exchange exchange(r);
  const DispatchRound& plan = exchange.plan();
  RC_ASSERT(plan.rows == r.tokens * r.top_k);
  const Values offsets = exchange.integers(plan.offsets);
  const Values entry = exchange.integers(plan.entry);
  const Values place = exchange.integers(plan.place);
  const Values source = exchange.integers(plan.row);
  RC_ASSERT(offsets.front() == 0);
  RC_ASSERT(offsets.back() == static_cast<double>(plan.rows));
  RC_ASSERT(std::is_sorted(offsets.begin(), offsets.end()));
  for (std::size_t e = 0; e + 1 < offsets.size(); ++e) {
    double before = -1;
    for (auto i = static_cast<std::size_t>(offsets[e]);
         i < static_cast<std::size_t>(offsets[e + 1]); ++i) {
      const auto choice = static_cast<std::size_t>(entry[i]);
      RC_ASSERT(r.index[choice] == static_cast<double>(e));
      RC_ASSERT(place[choice] == static_cast<double>(i));
      RC_ASSERT(source[i] ==
                std::floor(entry[i] / static_cast<double>(r.top_k)));
      RC_ASSERT(source[i] > before);  // tokens keep their order
      before = source[i];
    }
  }
}

RC_GTEST_PROP(DispatchTest, BringsEachRowToItsExperts, ()) {
  const Routing r = random_routing();
  Exchange exchange(r);
  const Values x = random_values(r.tokens * r.hidden, 1);
  const auto [received, weight] = exchange.dispatch(x, r.weight);
  const Values place = exchange.integers(exchange.plan().place);
  for (std::int64_t c = 0; c < exchange.plan().rows; ++c) {
    const auto at =
        static_cast<std::int64_t>(place[static_cast<std::size_t>(c)]);
    RC_ASSERT(row(received, at, r.hidden) == row(x, c / r.top_k, r.hidden));
    RC_ASSERT(weight[static_cast<std::size_t>(at)] ==
              r.weight[static_cast<std::size_t>(c)]);
  }
}

RC_GTEST_PROP(DispatchTest, CombineUndoesItUpToTheNumberOfChoices, ()) {
  const Routing r = random_routing();
  Exchange exchange(r);
  const Values x = random_values(r.tokens * r.hidden, 1);
  const Values ones(r.weight.size(), 1.0);
  Values expected = x;
  for (double& value : expected) value *= static_cast<double>(r.top_k);
  const Values received = exchange.dispatch(x, ones).first;
  expect_close(exchange.combine(received, ones), expected, 1e-14, "combine");
  const Values onto = random_values(r.tokens * r.hidden, 2);
  for (std::size_t i = 0; i < onto.size(); ++i) expected[i] += onto[i];
  expect_close(exchange.combine(received, ones, nullptr, &onto), expected,
               1e-14, "combine with residual");
  expect_close(exchange.combine(received, ones, &onto), expected, 1e-14,
               "combine onto");
}

void expect_equal(double a, double b) {
  EXPECT_NEAR(a, b, 1e-11 * (1 + std::abs(a)));
}

// <dispatch(x, w), (y, v)> = <(x, w), dispatch_gradient(y, v)>
RC_GTEST_PROP(DispatchTest, GradientIsTheTranspose, ()) {
  const Routing r = random_routing();
  Exchange exchange(r);
  const std::int64_t rows = exchange.plan().rows;
  const Values x = random_values(r.tokens * r.hidden, 1);
  const Values y = random_values(rows * r.hidden, 2);
  const Values v = random_values(rows, 3);
  const auto [received, weight] = exchange.dispatch(x, r.weight);
  const auto [d_x, d_weight] = exchange.dispatch_gradient(y, v);
  expect_equal(dot(received, y), dot(x, d_x));
  expect_equal(dot(weight, v), dot(r.weight, d_weight));

  const Values onto = random_values(r.tokens * r.hidden, 4);
  Values sum = d_x;
  for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += onto[i];
  expect_close(exchange.dispatch_gradient(y, v, &onto).first, sum, 1e-14,
               "dispatch_gradient onto");
  expect_close(exchange.dispatch_gradient(y, v, nullptr, &onto).first, sum,
               1e-14, "dispatch_gradient with residual");
}

// <combine(y, w), d> = <y, w combine_gradient(d)>, the weight left to the
// experts.
RC_GTEST_PROP(DispatchTest, CombineGradientIsTheTransposeBeforeTheWeight, ()) {
  const Routing r = random_routing();
  Exchange exchange(r);
  const std::int64_t rows = exchange.plan().rows;
  const Values x(static_cast<std::size_t>(r.tokens * r.hidden), 0.0);
  const Values y = random_values(rows * r.hidden, 2);
  const Values d = random_values(r.tokens * r.hidden, 5);
  const Values weight = exchange.dispatch(x, r.weight).second;
  Values d_result = exchange.combine_gradient(d);
  for (std::size_t i = 0; i < d_result.size(); ++i) {
    d_result[i] *= weight[i / static_cast<std::size_t>(r.hidden)];
  }
  expect_equal(dot(exchange.combine(y, r.weight), d), dot(y, d_result));
}

TEST(DispatchEdgeTest, TakesNoTokensAndOneExpert) {
  for (const std::int64_t tokens : {0, 1, 5}) {
    Routing r{tokens,
              1,
              1,
              3,
              Values(static_cast<std::size_t>(tokens), 0.0),
              Values(static_cast<std::size_t>(tokens), 1.0)};
    Exchange exchange(r);
    EXPECT_EQ(exchange.plan().rows, tokens);
    EXPECT_EQ(exchange.integers(exchange.plan().offsets),
              (Values{0, static_cast<double>(tokens)}));
    const Values x = random_values(tokens * 3, 1);
    EXPECT_EQ(exchange.dispatch(x, r.weight).first, x);
    EXPECT_EQ(exchange.combine(x, r.weight), x);
  }
}

TEST(DispatchEdgeTest, TakesTheSameRoutingForEveryToken) {
  Routing r{4, 2, 9, 2, {7, 0, 7, 0, 7, 0, 7, 0}, {1, 2, 3, 4, 5, 6, 7, 8}};
  Exchange exchange(r);
  EXPECT_EQ(exchange.integers(exchange.plan().offsets),
            (Values{0, 4, 4, 4, 4, 4, 4, 4, 8, 8}));
  EXPECT_EQ(exchange.dispatch(random_values(8, 1), r.weight).second,
            (Values{2, 4, 6, 8, 1, 3, 5, 7}));
}

}  // namespace
}  // namespace catena::testing
