// Dispatch between ranks that are threads.

#include "parallel/local/transport.h"
#include "tests/parallel/routing.h"

namespace catena::testing {
namespace {

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
  const auto held = ranks.held(1);
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
