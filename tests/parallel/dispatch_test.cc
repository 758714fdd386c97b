#include "parallel/dispatch.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "parallel/local/transport.h"
#include "tests/support/kernel_testing.h"

namespace catena::testing {
namespace {

/// Choices of distinct experts, as routers make them.
struct Routing {
  std::int64_t tokens, top_k, experts, hidden;
  Values index, weight;
};

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

void make_plan(const Dispatch& dispatch, FrameMemory& frames, TensorView index,
               TensorView weight, std::int64_t experts, Arena& keep,
               Arena& scratch, DispatchPlan& plan) {
  Task task =
      dispatch.plan(frames, index, weight, experts, 0, keep, scratch, plan);
  Pipeline pipeline;
  pipeline.run({&task, 1});
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
    make_plan(dispatch_, frames_, index_, weight_, r_.experts, keep_, scratch_,
              plan_);
    dispatch(Values(static_cast<std::size_t>(r_.tokens * r_.hidden), 0.0),
             r_.weight);
  }

  [[nodiscard]] const DispatchPlan& plan() const { return plan_; }
  [[nodiscard]] Values integers(TensorView view) const {
    const auto* data = view.as<std::int32_t>();
    return {data, data + view.elements()};
  }

  /// -> rows and weights as the experts receive them
  std::pair<Values, Values> dispatch(const Values& x, const Values& weight) {
    const TestTensor from = tokens(x);
    weight_.set(weight);
    EXPECT_TRUE(dispatch_.dispatch(plan_, from, scratch_).ready());
    dispatch_.receive(plan_, keep_);
    return {read_values(plan_.received), read_values(plan_.received_weight)};
  }
  Values combine(const Values& result, const Values& weight,
                 const Values* onto = nullptr,
                 const Values* residual = nullptr) {
    const TestTensor from = received(result);
    weight_.set(weight);
    const TestTensor to = tokens(onto != nullptr ? *onto : Values());
    const TestTensor added = tokens(residual != nullptr ? *residual : Values());
    EXPECT_TRUE(dispatch_.combine(plan_, from, scratch_).ready());
    dispatch_.add_results(plan_, from, to, onto != nullptr,
                          residual != nullptr ? added.view() : TensorView());
    return to.values();
  }
  Values combine_gradient(const Values& d_out) {
    const TestTensor from = tokens(d_out), to = received({});
    EXPECT_TRUE(dispatch_.combine_gradient(plan_, from, scratch_).ready());
    dispatch_.receive_gradient(plan_, to);
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
    EXPECT_TRUE(dispatch_.dispatch_gradient(plan_, from, from_weight, scratch_)
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
    return tensor({plan_.rows, r_.hidden}, values);
  }
  [[nodiscard]] TestTensor received_weight(const Values& values) const {
    return tensor({plan_.rows}, values);
  }

  Routing r_;
  Arena keep_, scratch_;
  FrameMemory frames_;
  Dispatch dispatch_;
  TestTensor index_, weight_;
  DispatchPlan plan_;
};

Values row(const Values& x, std::int64_t index, std::int64_t width) {
  return {x.begin() + index * width, x.begin() + (index + 1) * width};
}

RC_GTEST_PROP(DispatchTest, PlansEveryChoiceOnceAndByExpert, ()) {
  const Routing r = random_routing();
  Exchange exchange(r);
  const DispatchPlan& plan = exchange.plan();
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

// --- several ranks ----------------------------------------------------------

/// A routing whose shape the ranks share, and whose tokens differ.
Routing routing_of(int rank, int size, std::int64_t experts, std::int64_t top_k,
                   bool all_to_one) {
  Routing r;
  // Uneven, and none at all on some.
  r.tokens = rank % 3 == 2 ? 0 : 5 + 11 * ((rank * 7) % size);
  r.experts = experts;
  r.top_k = top_k;
  r.hidden = 6;
  const auto stream = static_cast<std::uint64_t>(rank + 100);
  for (std::int64_t t = 0; t < r.tokens; ++t) {
    const Permutation order(static_cast<std::uint64_t>(experts),
                            all_to_one ? 5 : stream,
                            all_to_one ? 5 : static_cast<std::uint64_t>(t));
    for (std::int64_t j = 0; j < top_k; ++j) {
      r.index.push_back(
          static_cast<double>(order.at(static_cast<std::uint64_t>(j))));
    }
  }
  r.weight = random_values(r.tokens * top_k, stream);
  return r;
}

/// There and back, and the gradients, where expert e multiplies by e + 1.
void check_ranks(Transport& transport, const Mesh& mesh,
                 const Placement& placement, const Routing& r) {
  const auto backend = make_cpu_backend(1);
  Ranks ranks(transport, *backend, mesh, placement, Communicator::Deadline(60));
  const Dispatch dispatch(backend->kernels(), &ranks, {.layer = 1});
  Arena keep(*backend), scratch(*backend);
  FrameMemory frames;
  DispatchPlan plan;
  const auto stream = static_cast<std::uint64_t>(transport.rank());
  const std::int64_t n = r.tokens * r.hidden;
  const Values x = random_values(n, stream + 1), onto = random_values(n, 7),
               residual = random_values(n, 8), d = random_values(n, 9);
  const TestTensor index(*backend, DType::kInt32, {r.tokens, r.top_k}, r.index);
  const TestTensor weight(*backend, DType::kFloat64, {r.tokens, r.top_k},
                          r.weight);
  const Shape shape{r.tokens, r.hidden};
  const TestTensor in(*backend, DType::kFloat64, shape, x);
  const TestTensor added(*backend, DType::kFloat64, shape, residual);
  const TestTensor d_out(*backend, DType::kFloat64, shape, d);
  const TestTensor d_x(*backend, DType::kFloat64, shape, onto);
  const TestTensor out(*backend, DType::kFloat64, shape, onto);
  const TestTensor d_weight(*backend, DType::kFloat64, {r.tokens, r.top_k});

  make_plan(dispatch, frames, index, weight, r.experts, keep, scratch, plan);
  wait(dispatch.dispatch(plan, in, scratch));
  dispatch.receive(plan, keep);
  const auto held = ranks.held();
  const auto* offsets = plan.offsets.as<std::int32_t>();
  EXPECT_EQ(offsets[held.size()], plan.rows);
  // Of every row: a factor of its expert, and, in the gradient, its weight.
  const auto scaled = [&](TensorView from, TensorView to, bool weighted) {
    for (std::size_t e = 0; e < held.size(); ++e) {
      for (std::int64_t row = offsets[e]; row < offsets[e + 1]; ++row) {
        const double factor =
            static_cast<double>(held[e] + 1) *
            (weighted ? plan.received_weight.as<double>()[row] : 1);
        for (std::int64_t c = 0; c < r.hidden; ++c) {
          to.as<double>()[row * r.hidden + c] =
              factor * from.as<double>()[row * r.hidden + c];
        }
      }
    }
  };
  const Shape rows{plan.rows, r.hidden};
  const TensorView result = scratch.allocate(DType::kFloat64, rows);
  scaled(plan.received, result, false);
  wait(dispatch.combine(plan, result, scratch));
  dispatch.add_results(plan, result, out, true, added);

  const TensorView d_result = scratch.allocate(DType::kFloat64, rows);
  const TensorView d_received = scratch.allocate(DType::kFloat64, rows);
  const TensorView d_row_weight =
      scratch.allocate(DType::kFloat64, {plan.rows});
  wait(dispatch.combine_gradient(plan, d_out, scratch));
  dispatch.receive_gradient(plan, d_result);
  scaled(d_result, d_received, true);
  for (std::int64_t row = 0; row < plan.rows; ++row) {
    const auto of_row = [&](TensorView view) {
      const auto* data = view.as<double>() + row * r.hidden;
      return Values(data, data + r.hidden);
    };
    d_row_weight.as<double>()[row] = dot(of_row(d_result), of_row(result));
  }
  wait(dispatch.dispatch_gradient(plan, d_received, d_row_weight, scratch));
  dispatch.add_gradients(plan, d_received, d_row_weight, d_x, true, added,
                         d_weight);

  Values expected_out(onto), expected_d_x(onto), expected_d_weight;
  for (std::int64_t t = 0; t < r.tokens; ++t) {
    const Values x_t = row(x, t, r.hidden), d_t = row(d, t, r.hidden);
    for (std::int64_t j = 0; j < r.top_k; ++j) {
      const auto choice = static_cast<std::size_t>(t * r.top_k + j);
      const double factor = r.index[choice] + 1;
      expected_d_weight.push_back(factor * dot(x_t, d_t));
      for (std::int64_t c = 0; c < r.hidden; ++c) {
        const auto at = static_cast<std::size_t>(t * r.hidden + c);
        expected_out[at] += r.weight[choice] * factor * x[at];
        expected_d_x[at] += r.weight[choice] * factor * d[at];
      }
    }
  }
  for (std::size_t i = 0; i < residual.size(); ++i) {
    expected_out[i] += residual[i];
    expected_d_x[i] += residual[i];
  }
  expect_close(out.values(), expected_out, 1e-12, "out");
  expect_close(d_x.values(), expected_d_x, 1e-12, "d_x");
  expect_close(d_weight.values(), expected_d_weight, 1e-12, "d_weight");
}

class RanksDispatchTest : public ::testing::TestWithParam<int> {
 protected:
  static void check(const Mesh& mesh, const Placement& placement,
                    std::int64_t top_k, bool all_to_one = false) {
    local::run_ranks(mesh.world, [&](Transport& transport) {
      SCOPED_TRACE(fmt::format("rank {} of {}, top_k {}", transport.rank(),
                               mesh.world, top_k));
      check_ranks(transport, mesh, placement,
                  routing_of(transport.rank(), mesh.world, placement.experts(),
                             top_k, all_to_one));
    });
  }
};

TEST_P(RanksDispatchTest, ThereAndBackIsAWeightedSumForAnyNumberOfRanks) {
  const int size = GetParam();
  for (const std::int64_t top_k : {1, 2, 5}) {
    check(make_mesh(size, size, 13), Placement::contiguous(13, size), top_k);
    check(make_mesh(size, size, 13), Placement::round_robin(13, size), top_k);
  }
  check(make_mesh(size, size, size), Placement::contiguous(size, size), 1);
}

TEST_P(RanksDispatchTest, EveryTokenMayGoToTheSameExperts) {
  const int size = GetParam();
  check(make_mesh(size, size, 9), Placement::contiguous(9, size), 1, true);
  check(make_mesh(size, size, 9), Placement::contiguous(9, size), 4, true);
}

TEST_P(RanksDispatchTest, ReplicatedExpertsServeAlike) {
  const int size = GetParam();
  std::vector<std::vector<int>> holders;
  for (int expert = 0; expert < 11; ++expert) {
    std::vector<int> of_expert{expert % size};
    if (expert % 2 == 0 && size > 1) of_expert.push_back((expert + 1) % size);
    holders.push_back(of_expert);
  }
  check(make_mesh(size, size, 11), Placement(holders, size), 3);
}

TEST_P(RanksDispatchTest, GroupsDoNotMix) {
  const int size = GetParam();
  for (int expert = 1; expert <= size; ++expert) {
    if (size % expert != 0) continue;
    check(make_mesh(size, expert, 10), Placement::contiguous(10, expert), 3);
  }
}

INSTANTIATE_TEST_SUITE_P(Sizes, RanksDispatchTest,
                         ::testing::Values(1, 2, 3, 4, 7, 8));

}  // namespace
}  // namespace catena::testing
