// How a batch is split over ranks, and experts over ranks, changes nothing but
// rounding.

#include <cmath>
#include <mutex>
#include <optional>

#include "parallel/local/transport.h"
#include "tests/layers/model_fixture.h"

namespace catena::testing {
namespace {

/// What a training step leaves behind, of all ranks together.
struct Outcome {
  double loss = 0;
  std::map<std::string, Values> gradients;
  std::vector<RouteSummary> calls;
  std::vector<std::int64_t> transitions;
};

void read_statistics(Model& model, Outcome& outcome) {
  const RoutingStatistics& statistics = model.statistics();
  outcome.loss = statistics.total_loss();
  for (std::int64_t layer = 0; layer < statistics.layers(); ++layer) {
    for (std::int64_t t = 0; t < statistics.iterations(); ++t) {
      outcome.calls.push_back(statistics.summary(layer, t));
      if (t + 1 == statistics.iterations()) continue;
      const auto counts = statistics.transitions(layer, t);
      outcome.transitions.insert(outcome.transitions.end(), counts.begin(),
                                 counts.end());
    }
  }
}

/// Sends every token to the same experts: the first ones.
class FirstExperts : public Observer {
 public:
  FirstExperts(Backend& backend, std::int64_t tokens, std::int64_t top_k)
      : routes_(backend, DType::kInt32, {tokens, top_k}) {
    Values values;
    for (std::int64_t i = 0; i < tokens * top_k; ++i) {
      values.push_back(static_cast<double>(i % top_k));
    }
    write_values(backend, routes_.view(), values);
  }
  TensorView forced_routes(const Chunk& chunk, std::int64_t,
                           std::int64_t) override {
    return routes_.view().slice(0, 0, chunk.tokens);
  }

 private:
  Tensor routes_;
};

Outcome one_rank(const ModelConfig& config, DType dtype, const Batch& batch,
                 bool all_to_first) {
  ModelFixture f(config, dtype);
  FirstExperts first(*f.backend, batch.size(), config.chain.top_k);
  if (all_to_first) f.chunks[0]->observer = &first;
  f.train(batch);
  Outcome outcome;
  read_statistics(f.model, outcome);
  outcome.gradients = gradients(f.model);
  return outcome;
}

/// How many ranks take the step.
struct Layout {
  int world = 1, expert = 1, chunks = 1;
  bool recompute = false, round_robin = false;
  DispatchRules rules = {};
  bool all_to_first = false;
  bool replicas = false;  ///< another placement in every layer
  int node = 0;           ///< ranks of a node, which is crossed to once; 0: all
};

Placements placements_of(const ModelConfig& config, const Layout& layout) {
  const std::int64_t experts = config.chain.routed_experts;
  if (layout.round_robin) {
    return Placement::round_robin(experts, layout.expert);
  }
  if (!layout.replicas || config.chain_layers() == 0) {
    return Placement::contiguous(experts, layout.expert);
  }
  std::vector<Placement> of_layers;
  for (std::int64_t layer = 0; layer < config.chain_layers(); ++layer) {
    std::vector<std::vector<int>> holders;
    for (std::int64_t e = 0; e < experts; ++e) {
      const int rank = static_cast<int>((e + layer) % layout.expert);
      holders.push_back({rank});
      if (e % 3 == 0) holders.back().push_back((rank + 1) % layout.expert);
    }
    of_layers.emplace_back(std::move(holders), layout.expert);
  }
  return Placements(std::move(of_layers));
}

/// The same step by layout.world ranks; what each of them has must agree.
Outcome many_ranks(const ModelConfig& config, DType dtype, const Batch& batch,
                   const Layout& layout) {
  const std::int64_t experts = config.chain.routed_experts;
  const Mesh mesh = make_mesh(layout.world, layout.expert, experts,
                              {.ranks = layout.node, .hierarchical = true});
  const Placements placements = placements_of(config, layout);
  Outcome outcome;
  std::mutex mutex;
  local::run_ranks(mesh.world, [&](Transport& transport) {
    const auto backend = make_cpu_backend(1);
    Ranks ranks(transport, *backend, mesh, placements,
                Communicator::Deadline(60), layout.rules);
    FirstExperts first(*backend, batch.size(), config.chain.top_k);
    Model model(*backend, config, Precision{dtype}, &ranks);
    randomize(model);
    std::vector<std::unique_ptr<Chunk>> of_rank;
    for (int i = 0; i < layout.chunks; ++i) {
      of_rank.push_back(model.make_chunk());
      of_rank.back()->recompute = layout.recompute;
      if (layout.all_to_first) of_rank.back()->observer = &first;
    }
    Tokens tokens = batch.tokens();
    const auto rows = static_cast<std::size_t>(tokens.rows());
    const auto size = static_cast<std::size_t>(ranks.size());
    const auto rank = static_cast<std::size_t>(ranks.rank());
    const std::size_t begin = rows * rank / size,
                      end = rows * (rank + 1) / size;
    tokens.row_offsets = tokens.row_offsets.subspan(begin, end - begin + 1);
    tokens.batch_tokens = batch.size();
    model.train(tokens, batch.scale(), of_rank);
    model.statistics().sum(ranks.world());
    for (std::size_t i = 0; i < model.parameters().size(); ++i) {
      const Parameter& parameter = model.parameters()[i];
      const TensorView gradient =
          parameter.gradient().reshape({parameter.elements()});
      for (const Section& section : parameter.spec().sections) {
        wait(section.replicas->all_reduce(
            {}, gradient.slice(0, section.begin, section.count)));
      }
      if (parameter.spec().sections.empty()) {
        wait(ranks.world().all_reduce({}, gradient));
      }
    }
    const std::lock_guard lock(mutex);
    Outcome here;
    read_statistics(model, here);
    for (const auto& [name, values] : gradients(model)) {
      const auto [at, first] = outcome.gradients.emplace(name, values);
      EXPECT_EQ(at->second, values) << name << " differs between replicas";
    }
    if (!outcome.calls.empty()) {
      EXPECT_EQ(here.loss, outcome.loss);
    }
    outcome.loss = here.loss;
    outcome.calls = here.calls;
    outcome.transitions = here.transitions;
  });
  return outcome;
}

void expect_same(const Outcome& found, const Outcome& expected,
                 double tolerance) {
  EXPECT_NEAR(found.loss, expected.loss, tolerance * expected.loss);
  EXPECT_EQ(found.gradients.size(), expected.gradients.size());
  for (const auto& [name, gradient] : expected.gradients) {
    ASSERT_TRUE(found.gradients.contains(name)) << name;
    EXPECT_LE(relative_error(found.gradients.at(name), gradient), tolerance)
        << name;
  }
  ASSERT_EQ(found.calls.size(), expected.calls.size());
  for (std::size_t i = 0; i < expected.calls.size(); ++i) {
    const RouteSummary &a = found.calls[i], &b = expected.calls[i];
    EXPECT_EQ(a.load, b.load) << "call " << i;
    EXPECT_NEAR(a.entropy_nats, b.entropy_nats, tolerance * b.entropy_nats);
    EXPECT_NEAR(a.auxiliary_loss, b.auxiliary_loss,
                tolerance * b.auxiliary_loss)
        << "call " << i;
    EXPECT_NEAR(a.z_loss, b.z_loss, tolerance * b.z_loss);
  }
  EXPECT_EQ(found.transitions, expected.transitions);
}

class ModelRanksTest : public ::testing::TestWithParam<Options> {
 protected:
  static void check(DType dtype, const Layout& layout,
                    double tolerance = 1e-11) {
    SCOPED_TRACE(
        fmt::format("{} ranks, experts over {}, {} a node, {} chunks, {}, {} "
                    "rows at once",
                    layout.world, layout.expert, layout.node, layout.chunks,
                    name(dtype), layout.rules.row_budget));
    const ModelConfig& config = GetParam().config;
    const Batch batch = packed_batch(config.vocabulary);
    expect_same(many_ranks(config, dtype, batch, layout),
                one_rank(config, dtype, batch, layout.all_to_first), tolerance);
  }
  /// Rounds and crossings take many exchanges, and are the same for all models:
  /// one goes through all layouts, the others through one.
  static bool goes_through_all() { return GetParam().name == "mla_inner"; }
};

// Of four rows: with seven and eight ranks some have none.
TEST_P(ModelRanksTest, AnyNumberOfThemGivesTheSameStep) {
  for (const int world : {1, 2, 3, 4, 7, 8}) {
    for (int expert = 1; expert <= world; ++expert) {
      if (world % expert != 0) continue;
      check(DType::kFloat64, {.world = world, .expert = expert});
    }
  }
}

TEST_P(ModelRanksTest, ChunksAndRecomputationLeaveNoTrace) {
  check(DType::kFloat64, {.world = 2, .expert = 2, .chunks = 2});
  check(DType::kFloat64,
        {.world = 4, .expert = 2, .chunks = 3, .recompute = true});
  check(DType::kFloat64, {.world = 3,
                          .expert = 3,
                          .chunks = 2,
                          .recompute = true,
                          .round_robin = true});
  check(DType::kFloat32, {.world = 2, .expert = 2, .chunks = 2}, 2e-5);
  check(DType::kFloat32, {.world = 4, .expert = 2, .recompute = true}, 2e-5);
}

// The most uneven routing there is, and a usual one.
TEST_P(ModelRanksTest, RoundsOfABudgetLeaveNoTrace) {
  for (const int world : {3, 2, 4, 8}) {
    if (world != 3 && !goes_through_all()) break;
    Layout layout{.world = world,
                  .expert = world,
                  .chunks = 1 + world % 2,
                  .rules = {.row_budget = world == 2 ? 1 : 13},
                  .all_to_first = true};
    check(DType::kFloat64, layout);
    layout.chunks = 2;
    layout.recompute = true;
    layout.round_robin = true;
    layout.all_to_first = false;
    check(DType::kFloat64, layout);
    layout.round_robin = false;
    layout.replicas = true;
    check(DType::kFloat64, layout);
  }
  if (!goes_through_all()) return;
  check(DType::kFloat64, {.world = 8,
                          .expert = 4,
                          .rules = {.row_budget = 6},
                          .all_to_first = true,
                          .replicas = true});
  check(DType::kFloat64, {.world = 4,
                          .expert = 4,
                          .rules = {.row_budget = 100000},
                          .all_to_first = true});
  check(DType::kFloat32, {.world = 4, .expert = 2, .rules = {.row_budget = 5}},
        2e-5);
}

TEST_P(ModelRanksTest, CrossingNodesOnceLeavesNoTrace) {
  for (const auto& [world, expert, node] :
       {std::tuple{4, 4, 2}, {8, 8, 2}, {8, 8, 4}, {8, 4, 2}}) {
    if (world != 4 && !goes_through_all()) break;
    Layout layout{.world = world, .expert = expert, .node = node};
    check(DType::kFloat64, layout);
    // Nodes whose chunks differ most in rounds, and no more in anything else.
    layout.chunks = 2;
    layout.recompute = true;
    layout.rules.row_budget = 7;
    layout.replicas = true;
    check(DType::kFloat64, layout);
    layout.replicas = false;
    layout.all_to_first = true;
    check(DType::kFloat64, layout);
  }
  check(DType::kFloat32,
        {.world = 4, .expert = 4, .rules = {.row_budget = 9}, .node = 2}, 2e-5);
}

/// ||a - b|| / ||b|| over all gradients.
double distance(const Outcome& a, const Outcome& b) {
  double difference = 0, size = 0;
  for (const auto& [name, gradient] : b.gradients) {
    const Values& other = a.gradients.at(name);
    for (std::size_t i = 0; i < gradient.size(); ++i) {
      difference += (other[i] - gradient[i]) * (other[i] - gradient[i]);
      size += gradient[i] * gradient[i];
    }
  }
  return std::sqrt(difference / size);
}

// float32 on the wire brings sums home unrounded, and bfloat16 rounds them.
TEST_P(ModelRanksTest, TheWireRoundsToItsTypeAlone) {
  const ModelConfig& config = GetParam().config;
  const Batch batch = packed_batch(config.vocabulary);
  const auto error = [&](DType compute, std::optional<DType> wire,
                         int node = 0) {
    const Layout layout{.world = 4,
                        .expert = 4,
                        .rules = {.row_budget = 40, .wire = wire},
                        .all_to_first = true,
                        .node = node};
    return distance(many_ranks(config, compute, batch, layout),
                    one_rank(config, compute, batch, true));
  };
  const bool exchanged = config.chain_layers() > 0;
  EXPECT_LE(error(DType::kFloat64, DType::kBFloat16), 1e-11);
  EXPECT_LE(error(DType::kFloat32, DType::kFloat32), 1e-5);
  EXPECT_LE(error(DType::kFloat64, DType::kBFloat16, 2), 1e-11);
  EXPECT_LE(error(DType::kFloat32, DType::kFloat32, 2), 1e-5);
  EXPECT_LT(error(DType::kFloat32, DType::kBFloat16, 2), 0.1);
  const double narrow = error(DType::kFloat32, DType::kBFloat16);
  EXPECT_LT(narrow, 0.1);
  EXPECT_EQ(narrow > 1e-4, exchanged) << narrow;
  if (!exchanged) return;
  const double rounded = error(DType::kBFloat16, {});
  const double whole = error(DType::kBFloat16, DType::kFloat32);
  EXPECT_LT(error(DType::kBFloat16, {}, 2), 2 * rounded);
  EXPECT_LT(error(DType::kBFloat16, DType::kFloat32, 2), 2 * whole);
  // A single term is rounded at home just as well.
  const bool one_term =
      config.chain.top_k == 1 && config.chain.shared_experts == 0;
  EXPECT_TRUE(one_term ? whole <= rounded : whole < rounded)
      << whole << " and " << rounded;
}

INSTANTIATE_TEST_SUITE_P(Options, ModelRanksTest,
                         ::testing::ValuesIn(all_options()),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace catena::testing
