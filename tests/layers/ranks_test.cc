// How a batch is split over ranks, and experts over ranks, changes nothing but
// rounding.

#include <mutex>

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

Outcome one_rank(const ModelConfig& config, DType dtype, const Batch& batch) {
  ModelFixture f(config, dtype);
  f.train(batch);
  Outcome outcome;
  read_statistics(f.model, outcome);
  outcome.gradients = gradients(f.model);
  return outcome;
}

/// The same step by `mesh.world` ranks; what each of them has must agree.
Outcome many_ranks(const ModelConfig& config, DType dtype, const Batch& batch,
                   const Mesh& mesh, const Placement& placement, int chunks,
                   bool recompute) {
  Outcome outcome;
  std::mutex mutex;
  local::run_ranks(mesh.world, [&](Transport& transport) {
    const auto backend = make_cpu_backend(1);
    Ranks ranks(transport, *backend, mesh, placement,
                Communicator::Deadline(60));
    Model model(*backend, config, Precision{dtype}, &ranks);
    randomize(model);
    std::vector<std::unique_ptr<Chunk>> of_rank;
    for (int i = 0; i < chunks; ++i) {
      of_rank.push_back(model.make_chunk());
      of_rank.back()->recompute = recompute;
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
  static void check(DType dtype, int world, int expert, int chunks,
                    bool recompute = false, bool round_robin = false) {
    SCOPED_TRACE(fmt::format("{} ranks, experts over {}, {} chunks, {}", world,
                             expert, chunks, name(dtype)));
    const ModelConfig& config = GetParam().config;
    const std::int64_t experts = config.chain.routed_experts;
    const Batch batch = packed_batch(config.vocabulary);
    const Placement placement = round_robin
                                    ? Placement::round_robin(experts, expert)
                                    : Placement::contiguous(experts, expert);
    expect_same(
        many_ranks(config, dtype, batch, make_mesh(world, expert, experts),
                   placement, chunks, recompute),
        one_rank(config, dtype, batch),
        dtype == DType::kFloat64 ? 1e-11 : 2e-5);
  }
};

// Of four rows: with seven and eight ranks some have none.
TEST_P(ModelRanksTest, AnyNumberOfThemGivesTheSameStep) {
  for (const int world : {1, 2, 3, 4, 7, 8}) {
    for (int expert = 1; expert <= world; ++expert) {
      if (world % expert == 0) check(DType::kFloat64, world, expert, 1);
    }
  }
}

TEST_P(ModelRanksTest, ChunksAndRecomputationLeaveNoTrace) {
  check(DType::kFloat64, 2, 2, 2);
  check(DType::kFloat64, 4, 2, 3, true);
  check(DType::kFloat64, 3, 3, 2, true, true);
  check(DType::kFloat32, 2, 2, 2);
  check(DType::kFloat32, 4, 2, 1, true);
}

INSTANTIATE_TEST_SUITE_P(Options, ModelRanksTest,
                         ::testing::ValuesIn(all_options()),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace catena::testing
