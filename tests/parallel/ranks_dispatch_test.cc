// Dispatch between ranks that are threads.

#include <atomic>
#include <set>

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

constexpr std::int64_t kNoBudget = DispatchRules().row_budget;

/// What ranks have to do with their rows, round by round.
class Rows {
 public:
  Rows(Backend& backend, Ranks& ranks, const Routing& r, TensorView x,
       TensorView index, TensorView weight)
      : backend_(backend),
        dispatch_(backend.kernels(), &ranks, {.layer = 1}),
        held_(ranks.held(1)),
        hidden_(r.hidden) {
    make_plan(dispatch_, frames_, x, index, weight, r.experts, keep_, scratch_,
              plan_);
    if (dispatch_.crosses()) wait(plan_.crossed);
    if (ranks.expert().size() > 1) budget_ = ranks.rules().budget(r.top_k);
  }

  /// Expert e multiplies by e + 1.
  void there_and_back(TensorView out, TensorView added) {
    for_each_round([&](DispatchRound& round, Arena& keep) {
      serve(round, keep);
      wait(dispatch_.combine(plan_, round, result_, scratch_));
    });
    if (dispatch_.crosses()) wait(dispatch_.return_results(plan_, scratch_));
    dispatch_.add_results(plan_, result_, out, true, added);
  }

  void gradients(TensorView d_out, TensorView d_x, TensorView added,
                 TensorView d_weight) {
    dispatch_.plan_gradient(plan_, d_out, scratch_);
    if (dispatch_.crosses()) wait(plan_.crossed);
    if (plan_.rounds > 1) dispatch_.plan_later(plan_, scratch_);
    TensorView d_received, d_row_weight;
    for_each_round([&](DispatchRound& round, Arena& keep) {
      if (round.number > 0) serve(round, keep);
      const Shape rows{round.rows, hidden_};
      const TensorView d_result = scratch_.allocate(DType::kFloat64, rows);
      d_received = scratch_.allocate(DType::kFloat64, rows);
      d_row_weight = scratch_.allocate(DType::kFloat64, {round.rows});
      wait(dispatch_.combine_gradient(plan_, round, scratch_));
      dispatch_.receive_gradient(round, d_result);
      scale(round, d_result, d_received, true);
      const TensorView result = round.number > 0 ? result_ : main_result_;
      for (std::int64_t row = 0; row < round.rows; ++row) {
        d_row_weight.as<double>()[row] =
            dot(of_row(d_result, row), of_row(result, row));
      }
      wait(dispatch_.dispatch_gradient(plan_, round, d_received, d_row_weight,
                                       scratch_));
      wait(round.weight_sent);
    });
    if (dispatch_.crosses()) wait(dispatch_.return_gradients(plan_, scratch_));
    dispatch_.add_gradients(plan_, d_received, d_row_weight, d_x, true, added,
                            d_weight);
  }

  [[nodiscard]] std::int64_t rounds() const { return plan_.rounds; }

 private:
  template <class Visit>
  void for_each_round(const Visit& visit) {
    DispatchRound later;
    for (later.number = 1; later.number < plan_.rounds; ++later.number) {
      const ArenaScope scope(scratch_);
      visit(later, scratch_);
    }
    visit(plan_.main, keep_);
  }

  void serve(DispatchRound& round, Arena& keep) {
    wait(dispatch_.dispatch(plan_, round, scratch_));
    dispatch_.receive(plan_, round, keep, scratch_);
    EXPECT_EQ(round.offsets.as<std::int32_t>()[held_.size()], round.rows);
    EXPECT_LE(round.rows, budget_);
    result_ = keep.allocate(DType::kFloat64, {round.rows, hidden_});
    scale(round, round.received, result_, false);
    if (round.number == 0) main_result_ = result_;
  }

  /// Of every row: a factor of its expert, and, in the gradient, its weight.
  void scale(const DispatchRound& round, TensorView from, TensorView to,
             bool weighted) const {
    const auto* offsets = round.offsets.as<std::int32_t>();
    for (std::size_t e = 0; e < held_.size(); ++e) {
      for (std::int64_t row = offsets[e]; row < offsets[e + 1]; ++row) {
        const double factor =
            static_cast<double>(held_[e] + 1) *
            (weighted ? round.received_weight.as<double>()[row] : 1);
        for (std::int64_t c = 0; c < hidden_; ++c) {
          to.as<double>()[row * hidden_ + c] =
              factor * from.as<double>()[row * hidden_ + c];
        }
      }
    }
  }

  [[nodiscard]] Values of_row(TensorView view, std::int64_t row) const {
    const auto* data = view.as<double>() + row * hidden_;
    return {data, data + hidden_};
  }

  Backend& backend_;
  Dispatch dispatch_;
  std::span<const std::int64_t> held_;
  std::int64_t hidden_, budget_ = kNoBudget;
  Arena keep_{backend_}, scratch_{backend_};
  FrameMemory frames_;
  DispatchPlan plan_;
  TensorView result_, main_result_;
};

/// Copies of a rank's tokens that leave its node.
std::int64_t copies_across(const Mesh& mesh, const Placement& placement,
                           int rank, const Routing& r) {
  const int home = rank % mesh.expert, first = rank - home;
  const auto node_of = [&](int place) {
    return (first + place) / mesh.ranks_per_node;
  };
  std::int64_t copies = 0;
  for (std::int64_t t = 0; t < r.tokens; ++t) {
    std::set<int> parts;
    for (std::int64_t j = 0; j < r.top_k; ++j) {
      const auto choice = static_cast<std::size_t>(t * r.top_k + j);
      const int server = placement.server(
          static_cast<std::int64_t>(r.index[choice]), home, mesh.of_node());
      if (node_of(server) == node_of(home)) continue;
      parts.insert(mesh.crosses() ? node_of(server) : server);
    }
    copies += static_cast<std::int64_t>(parts.size());
  }
  return copies;
}

/// There and back, and the gradients, where expert e multiplies by e + 1.
/// Returns the number of rounds.
std::int64_t check_ranks(Transport& transport, const Mesh& mesh,
                         const Placement& placement, const Routing& r,
                         std::int64_t budget) {
  const auto backend = make_cpu_backend(1);
  Ranks ranks(transport, *backend, mesh, placement, Communicator::Deadline(60),
              {.row_budget = budget});
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

  Rows rows(*backend, ranks, r, in, index, weight);
  rows.there_and_back(out, added);
  rows.gradients(d_out, d_x, added, d_weight);

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
  const PhaseTraffic sent = ranks.take_traffic()[Phase::kCombineGradient];
  EXPECT_EQ(sent.across_bytes,
            8 * r.hidden * copies_across(mesh, placement, transport.rank(), r));
  return rows.rounds();
}

class RanksDispatchTest : public ::testing::TestWithParam<int> {
 protected:
  static std::int64_t check(const Mesh& mesh, const Placement& placement,
                            std::int64_t top_k, bool all_to_one = false,
                            std::int64_t budget = kNoBudget) {
    std::atomic<std::int64_t> rounds = 0;
    local::run_ranks(mesh.world, [&](Transport& transport) {
      SCOPED_TRACE(fmt::format("rank {} of {}, top_k {}, budget {}",
                               transport.rank(), mesh.world, top_k, budget));
      rounds = check_ranks(transport, mesh, placement,
                           routing_of(transport.rank(), mesh.world,
                                      placement.experts(), top_k, all_to_one),
                           budget);
    });
    return rounds;
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

TEST_P(RanksDispatchTest, RoundsWithinABudgetLeaveNoTrace) {
  const int size = GetParam();
  const Mesh mesh = make_mesh(size, size, 9);
  const Placement placement = Placement::contiguous(9, size);
  for (const std::int64_t top_k : {1, 3}) {
    for (const bool all_to_one : {false, true}) {
      for (const std::int64_t budget : {2, 7, 100000}) {
        // Hundreds of rounds, which say no more than those of fewer ranks.
        if (budget == 2 && all_to_one && size > 4) continue;
        const std::int64_t rounds =
            check(mesh, placement, top_k, all_to_one, budget);
        if (budget == 2) {
          EXPECT_EQ(rounds > 1, size > 1) << budget;
        }
        if (budget == 100000) {
          EXPECT_EQ(rounds, 1);
        }
      }
    }
  }
}

TEST_P(RanksDispatchTest, ReplicatedExpertsServeAlike) {
  const int size = GetParam();
  std::vector<std::vector<int>> holders;
  for (int expert = 0; expert < 11; ++expert) {
    std::vector<int> of_expert{expert % size};
    if (expert % 2 == 0 && size > 1) of_expert.push_back((expert + 1) % size);
    holders.push_back(of_expert);
  }
  for (const std::int64_t budget : {kNoBudget, std::int64_t{4}}) {
    for (const bool all_to_one : {false, true}) {
      check(make_mesh(size, size, 11), Placement(holders, size), 3, all_to_one,
            budget);
    }
  }
}

TEST_P(RanksDispatchTest, GroupsDoNotMix) {
  const int size = GetParam();
  for (int expert = 1; expert <= size; ++expert) {
    if (size % expert != 0) continue;
    check(make_mesh(size, expert, 10), Placement::contiguous(10, expert), 3);
  }
}

/// Ranks that lie on nodes of 1, 2 or 4, in one group and in several.
std::vector<Mesh> meshes_of_nodes(int size, std::int64_t experts) {
  std::vector<Mesh> meshes;
  for (const int of_node : {1, 2, 4}) {
    for (int expert = of_node; expert <= size; expert += of_node) {
      if (size % expert != 0 || size % of_node != 0) continue;
      const Mesh mesh = make_mesh(size, expert, experts,
                                  {.ranks = of_node, .hierarchical = true});
      if (mesh.crosses() || expert == size) meshes.push_back(mesh);
    }
  }
  return meshes;
}

TEST_P(RanksDispatchTest, CrossingNodesOnceLeavesNoTrace) {
  for (const Mesh& mesh : meshes_of_nodes(GetParam(), 13)) {
    SCOPED_TRACE(fmt::format("experts over {}, {} ranks a node", mesh.expert,
                             mesh.ranks_per_node));
    for (const std::int64_t top_k : {1, 2, 5}) {
      check(mesh, Placement::contiguous(13, mesh.expert), top_k);
      check(mesh, Placement::round_robin(13, mesh.expert), top_k);
    }
    check(mesh, Placement::contiguous(13, mesh.expert), 4, true);
  }
}

TEST_P(RanksDispatchTest, RoundsBehindACrossingLeaveNoTrace) {
  for (const Mesh& mesh : meshes_of_nodes(GetParam(), 9)) {
    SCOPED_TRACE(fmt::format("experts over {}, {} ranks a node", mesh.expert,
                             mesh.ranks_per_node));
    const Placement placement = Placement::contiguous(9, mesh.expert);
    for (const bool all_to_one : {false, true}) {
      EXPECT_EQ(check(mesh, placement, 3, all_to_one, 7) > 1, mesh.expert > 1);
      EXPECT_EQ(check(mesh, placement, 3, all_to_one, 100000), 1);
    }
  }
}

TEST_P(RanksDispatchTest, ReplicasOfAnyNodeServeACrossing) {
  for (const Mesh& mesh : meshes_of_nodes(GetParam(), 11)) {
    const int size = mesh.expert;
    std::vector<std::vector<int>> holders;
    for (int expert = 0; expert < 11; ++expert) {
      std::set<int> of_expert{expert % size};
      if (expert % 2 == 0) of_expert.insert((expert + 1) % size);
      if (expert % 3 == 0) of_expert.insert((expert + 2) % size);
      holders.emplace_back(of_expert.begin(), of_expert.end());
    }
    for (const std::int64_t budget : {kNoBudget, std::int64_t{4}}) {
      check(mesh, Placement(holders, size), 3, false, budget);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Sizes, RanksDispatchTest,
                         ::testing::Values(1, 2, 3, 4, 7, 8));

}  // namespace
}  // namespace catena::testing
