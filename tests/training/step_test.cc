#include "training/step.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "parallel/local/transport.h"
#include "runtime/base/random.h"

namespace catena {
namespace {

using testing::HasSubstr;

/// `rows` rows of 4 to 9 tokens, one document each.
data::Batch make_batch(std::int64_t rows, std::int32_t vocabulary) {
  const Random random(3, 1);
  data::Batch batch;
  batch.rows = rows;
  batch.row_offsets.push_back(0);
  for (std::int64_t row = 0; row < rows; ++row) {
    const auto begin = static_cast<std::int32_t>(batch.tokens.size());
    const std::int32_t length = 4 + static_cast<std::int32_t>(row % 6);
    for (std::int32_t i = 0; i < length; ++i) {
      const auto draw = random.words(batch.tokens.size());
      const auto size = static_cast<std::uint32_t>(vocabulary);
      batch.tokens.push_back(static_cast<std::int32_t>(draw[0] % size));
      batch.targets.push_back(
          i == 0 ? -1 : static_cast<std::int32_t>(draw[1] % size));
      batch.positions.push_back(i);
      batch.first.push_back(begin);
      batch.trained_tokens += i > 0;
    }
    batch.row_offsets.push_back(static_cast<std::int64_t>(batch.tokens.size()));
  }
  batch.sequence = 16;
  batch.padding_tokens =
      rows * batch.sequence - static_cast<std::int64_t>(batch.tokens.size());
  return batch;
}

void expect_near(const std::vector<double>& found,
                 const std::vector<double>& expected, const std::string& name) {
  ASSERT_EQ(found.size(), expected.size()) << name;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    ASSERT_NEAR(found[i], expected[i], 1e-9) << name << ", element " << i;
  }
}

class StepTest : public testing::Test {
 protected:
  StepTest() : backend_(make_cpu_backend(2)) {
    config_.model.hidden = 16;
    config_.model.layers = 2;
    config_.model.vocabulary = 50;
    config_.model.max_positions = 16;
    config_.model.attention = {.heads = 2,
                               .kv_lora_rank = 8,
                               .qk_nope_size = 4,
                               .qk_rope_size = 4,
                               .v_size = 4};
    config_.model.chain = {.routed_experts = 5, .top_k = 2, .intermediate = 12};
    config_.model.router.z_loss = 0.01;
    config_.data.sequence = 16;
    config_.train.steps = 3;
  }

  struct Outcome {
    StepReport report;
    std::map<std::string, std::vector<double>> weights;
    std::map<std::string, std::vector<double>> copies;  ///< rounded
  };
  Outcome train(std::int64_t micro_rows, std::int64_t chunks,
                const char* scope) {
    config_.train.micro_batch_tokens = micro_rows * config_.data.sequence;
    config_.parallel.chunks = chunks;
    config_.model.router.auxiliary_scope = scope;
    return train(*backend_, nullptr);
  }

  /// Three steps.
  Outcome train(Backend& backend, Ranks* ranks,
                DType dtype = DType::kFloat64) const {
    Model model(backend, config_.model, {dtype}, ranks);
    model.parameters().initialize(5);
    Optimizer optimizer(model.parameters(), config_.optimizer, ranks);
    Step step(model, optimizer, config_);
    Outcome outcome;
    for (std::int64_t number = 1; number <= 3; ++number) {
      step.compute(make_batch(7, 50), number, outcome.report);
      step.apply(outcome.report);
    }
    optimizer.gather_masters();
    for (std::size_t i = 0; i < model.parameters().size(); ++i) {
      const Parameter& parameter = model.parameters()[i];
      for (const NamedPart& part : parameter.spec().parts) {
        outcome.weights[part.name] =
            read_values(backend, part_of(parameter.master(), part));
        if (!parameter.copy().defined()) continue;
        outcome.copies[part.name] =
            read_values(backend, part_of(parameter.copy(), part));
      }
    }
    return outcome;
  }

  /// By ranks as threads; everybody's outcome.
  std::vector<Outcome> train_ranks(int world, int expert,
                                   DType dtype = DType::kFloat64) const {
    return train_ranks(
        world,
        Placement::contiguous(config_.model.chain.routed_experts, expert),
        dtype);
  }
  std::vector<Outcome> train_ranks(int world, const Placements& placements,
                                   DType dtype = DType::kFloat64) const {
    std::vector<Outcome> outcomes(static_cast<std::size_t>(world));
    const std::int64_t experts = config_.model.chain.routed_experts;
    const int expert = placements.ranks();
    local::run_ranks(world, [&](Transport& transport) {
      const auto backend = make_cpu_backend(1);
      Ranks ranks(transport, *backend, make_mesh(world, expert, experts),
                  placements, Communicator::Deadline(60));
      outcomes[static_cast<std::size_t>(transport.rank())] =
          train(*backend, &ranks, dtype);
    });
    return outcomes;
  }

  /// The report of one step, put together from steps of the model: of every
  /// micro-batch, with losses divided by counts of the batch.
  StepReport by_hand(const data::Batch& batch, std::int64_t micro_rows) const {
    Model model(*backend_, config_.model, {DType::kFloat64});
    model.parameters().initialize(5);
    Optimizer optimizer(model.parameters(), config_.optimizer);
    std::vector<std::unique_ptr<Chunk>> chunks;
    chunks.push_back(model.make_chunk());
    model.statistics().clear();
    const auto all = static_cast<double>(batch.tokens.size());
    for (std::int64_t row = 0; row < batch.rows; row += micro_rows) {
      const Tokens tokens =
          tokens_of(batch, row, std::min(micro_rows, batch.rows - row));
      const auto count = static_cast<double>(tokens.row_offsets.back() -
                                             tokens.row_offsets.front());
      model.train(tokens,
                  {1 / static_cast<double>(batch.trained_tokens),
                   1 / static_cast<double>(batch.rows), 1 / all, count / all},
                  chunks);
    }
    StepReport report;
    report.loss = model.statistics().total_loss() /
                  static_cast<double>(batch.trained_tokens);
    report.gradient_norm = optimizer.gradient_norm();
    report.routes.resize(2);
    for (std::int64_t layer = 0; layer < 2; ++layer) {
      for (std::int64_t t = 0; t < 2; ++t) {
        report.routes[static_cast<std::size_t>(layer)].push_back(
            model.statistics().summary(layer, t));
      }
    }
    return report;
  }

  Config config_;
  std::unique_ptr<Backend> backend_;
};

TEST_F(StepTest, MicroBatchesAndChunksLeaveNoTrace) {
  const Outcome whole = train(7, 1, "sequence");
  for (const auto& [micro, chunks] :
       std::vector<std::pair<std::int64_t, std::int64_t>>{
           {1, 1}, {3, 1}, {7, 2}, {2, 3}, {7, 9}}) {
    const Outcome split = train(micro, chunks, "sequence");
    EXPECT_NEAR(split.report.loss, whole.report.loss, 1e-12);
    EXPECT_NEAR(split.report.gradient_norm, whole.report.gradient_norm, 1e-10);
    for (const auto& [name, weights] : whole.weights) {
      expect_near(split.weights.at(name), weights, name);
    }
  }
}

TEST_F(StepTest, RanksLeaveNoTrace) {
  for (const char* scope : {"sequence", "batch"}) {
    config_.model.router.auxiliary_scope = scope;
    config_.model.router.correction_bias = true;
    config_.parallel.chunks = 1;
    // The balance over a batch is one of each accumulation step.
    config_.train.micro_batch_tokens = 7 * config_.data.sequence;
    const Outcome one = train(*backend_, nullptr);
    for (const auto& [world, expert] : {std::pair{1, 1},
                                        {2, 1},
                                        {2, 2},
                                        {3, 3},
                                        {4, 1},
                                        {4, 2},
                                        {4, 4},
                                        {7, 1},
                                        {8, 4},
                                        {8, 2}}) {
      SCOPED_TRACE(testing::Message() << scope << ", " << world << " ranks, "
                                      << "experts over " << expert);
      config_.parallel.chunks = 1 + world % 2;
      std::map<std::string, std::vector<double>> weights;
      for (const Outcome& outcome : train_ranks(world, expert)) {
        EXPECT_NEAR(outcome.report.loss, one.report.loss, 1e-11);
        EXPECT_NEAR(outcome.report.gradient_norm, one.report.gradient_norm,
                    1e-9);
        for (const auto& [name, values] : outcome.weights) {
          const auto [at, is_new] = weights.emplace(name, values);
          EXPECT_EQ(at->second, values) << name << " differs between replicas";
        }
      }
      EXPECT_EQ(weights.size(), one.weights.size());
      for (const auto& [name, values] : one.weights) {
        expect_near(weights.at(name), values, name);
      }
    }
  }
}

/// Unequal sets of replicas, otherwise in each of two layers: expert e is on
/// rank e modulo ranks, and on e % 3 ranks more.
Placements uneven_replicas(std::int64_t experts, int ranks) {
  std::vector<Placement> layers;
  for (const int turned : {0, 1}) {
    std::vector<std::vector<int>> holders;
    for (int e = 0; e < experts; ++e) {
      std::vector<int> of_expert;
      for (int i = 0; i <= std::min(e % 3, ranks - 1); ++i) {
        of_expert.push_back((e + i + turned) % ranks);
      }
      holders.push_back(of_expert);
    }
    layers.emplace_back(holders, ranks);
  }
  return Placements(std::move(layers));
}

TEST_F(StepTest, ReplicasOfExpertsLeaveNoTrace) {
  config_.train.micro_batch_tokens = 7 * config_.data.sequence;
  const Outcome one = train(*backend_, nullptr);
  for (const auto& [world, expert] : {std::pair{1, 1},
                                      {2, 2},
                                      {3, 3},
                                      {4, 4},
                                      {4, 2},
                                      {6, 3},
                                      {5, 5},
                                      {8, 4},
                                      {8, 2}}) {
    SCOPED_TRACE(testing::Message()
                 << world << " ranks, experts over " << expert);
    config_.parallel.chunks = 1 + world % 2;
    std::map<std::string, std::vector<double>> weights;
    for (const Outcome& outcome :
         train_ranks(world, uneven_replicas(5, expert))) {
      EXPECT_NEAR(outcome.report.loss, one.report.loss, 1e-11);
      EXPECT_NEAR(outcome.report.gradient_norm, one.report.gradient_norm, 1e-9);
      for (const auto& [name, values] : outcome.weights) {
        const auto [at, is_new] = weights.emplace(name, values);
        EXPECT_EQ(at->second, values) << name << " differs between replicas";
      }
    }
    EXPECT_EQ(weights.size(), one.weights.size());
    for (const auto& [name, values] : one.weights) {
      expect_near(weights.at(name), values, name);
    }
  }
}

TEST_F(StepTest, RanksKeepTheSameRoundedCopies) {
  const auto contiguous = [](int ranks) {
    return Placements(Placement::contiguous(5, ranks));
  };
  for (const auto& [world, placements] : {std::pair{2, contiguous(1)},
                                          {2, contiguous(2)},
                                          {4, contiguous(2)},
                                          {3, uneven_replicas(5, 3)},
                                          {4, uneven_replicas(5, 2)}}) {
    SCOPED_TRACE(testing::Message()
                 << world << " ranks, experts over " << placements.ranks());
    std::map<std::string, std::vector<double>> weights;
    for (const Outcome& outcome :
         train_ranks(world, placements, DType::kBFloat16)) {
      EXPECT_GT(outcome.copies.size(), outcome.weights.size() / 2);
      for (const auto& [name, values] : outcome.weights) {
        EXPECT_EQ(weights.emplace(name, values).first->second, values) << name;
      }
      for (const auto& [name, copy] : outcome.copies) {
        const auto& master = outcome.weights.at(name);
        ASSERT_EQ(copy.size(), master.size());
        for (std::size_t i = 0; i < copy.size(); ++i) {
          ASSERT_EQ(copy[i],
                    static_cast<float>(BFloat16(static_cast<float>(master[i]))))
              << name << ", element " << i;
        }
      }
    }
  }
}

// Against the model itself, since what every layout does wrong no comparison
// of layouts shows.
TEST_F(StepTest, DividesLossesByCountsOfTheBatch) {
  const data::Batch batch = make_batch(7, 50);
  for (const char* scope : {"sequence", "batch"}) {
    config_.model.router.auxiliary_scope = scope;
    config_.model.router.auxiliary_loss = 0.1;
    for (const std::int64_t micro_rows : {7, 3}) {
      SCOPED_TRACE(testing::Message() << scope << ", " << micro_rows);
      const StepReport expected = by_hand(batch, micro_rows);
      config_.train.micro_batch_tokens = micro_rows * config_.data.sequence;
      Model model(*backend_, config_.model, {DType::kFloat64});
      model.parameters().initialize(5);
      Optimizer optimizer(model.parameters(), config_.optimizer);
      Step step(model, optimizer, config_);
      StepReport report;
      step.compute(batch, 1, report);
      EXPECT_NEAR(report.loss, expected.loss, 1e-12);
      EXPECT_NEAR(report.gradient_norm, expected.gradient_norm, 1e-12);
      for (std::size_t layer = 0; layer < 2; ++layer) {
        for (std::size_t t = 0; t < 2; ++t) {
          EXPECT_NEAR(report.routes[layer][t].auxiliary_loss,
                      expected.routes[layer][t].auxiliary_loss, 1e-12);
        }
      }
    }
  }
}

TEST_F(StepTest, ChunksLeaveNoTraceInTheBalanceOverABatch) {
  const Outcome whole = train(7, 1, "batch");
  const Outcome split = train(7, 3, "batch");
  EXPECT_NEAR(split.report.gradient_norm, whole.report.gradient_norm, 1e-10);
  EXPECT_NEAR(split.report.routes[1][1].auxiliary_loss,
              whole.report.routes[1][1].auxiliary_loss, 1e-12);
}

TEST_F(StepTest, CountsEveryChoice) {
  const Outcome outcome = train(3, 2, "sequence");
  ASSERT_EQ(outcome.report.routes.size(), 2U);
  for (const auto& layer : outcome.report.routes) {
    for (const RouteSummary& summary : layer) {
      EXPECT_EQ(summary.tokens, static_cast<double>(outcome.report.tokens));
    }
  }
}

TEST_F(StepTest, NamesTheFirstTensorThatIsNotFinite) {
  Model model(*backend_, config_.model, {});
  model.parameters().initialize(5);
  Optimizer optimizer(model.parameters(), config_.optimizer);
  Step step(model, optimizer, config_);
  const auto fill = [&](const char* name, double value) {
    const Parameter& p = *model.parameters().find(name).parameter;
    write_values(
        *backend_, p.master(),
        std::vector<double>(static_cast<std::size_t>(p.elements()), value));
  };
  // Finite, but its product is not: the weight itself must not be blamed.
  fill("model.layers.1.self_attn.kv_a_layernorm.weight", 1e6);
  fill("model.layers.1.self_attn.o_proj.weight", 3e38);
  const auto before = model.parameters().find("model.norm.weight");
  StepReport report;
  try {
    step.compute(make_batch(7, 50), 4, report);
    EXPECT_FALSE(std::isfinite(report.loss));
    step.diagnose(make_batch(7, 50), 4);
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kNonFinite);
    EXPECT_THAT(error.what(), HasSubstr("step 4: not finite. It began in "
                                        "model.layers.1.self_attn.output"));
    EXPECT_THAT(error.what(), HasSubstr("learning_rate.peak"));
  }
  for (const double value :
       read_values(*backend_, before.parameter->master())) {
    EXPECT_EQ(value, 1);
  }
}

}  // namespace
}  // namespace catena
