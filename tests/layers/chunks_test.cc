// How a batch is cut into chunks and micro-batches changes nothing but
// rounding.

#include "tests/layers/model_fixture.h"

namespace catena::testing {
namespace {

/// Everything a training step leaves behind.
struct Step {
  double loss = 0;
  std::map<std::string, Values> gradients;
  std::vector<RouteSummary> calls;
  std::vector<std::int64_t> transitions;
};

Step result(ModelFixture& f) {
  Step step;
  step.loss = f.model.statistics().total_loss();
  step.gradients = gradients(f.model);
  f.for_each_call(
      [&](const RouteSummary& call) { step.calls.push_back(call); });
  const RoutingStatistics& statistics = f.model.statistics();
  for (std::int64_t layer = 0; layer < statistics.layers(); ++layer) {
    for (std::int64_t t = 0; t + 1 < statistics.iterations(); ++t) {
      const auto counts = statistics.transitions(layer, t);
      step.transitions.insert(step.transitions.end(), counts.begin(),
                              counts.end());
    }
  }
  return step;
}

void expect_same(const Step& found, const Step& expected, double tolerance) {
  EXPECT_NEAR(found.loss, expected.loss, tolerance * expected.loss);
  for (const auto& [name, gradient] : expected.gradients) {
    EXPECT_LE(relative_error(found.gradients.at(name), gradient), tolerance)
        << name;
  }
  ASSERT_EQ(found.calls.size(), expected.calls.size());
  for (std::size_t i = 0; i < expected.calls.size(); ++i) {
    const RouteSummary &a = found.calls[i], &b = expected.calls[i];
    EXPECT_EQ(a.load, b.load) << "call " << i;
    EXPECT_EQ(a.tokens, b.tokens);
    EXPECT_NEAR(a.entropy_nats, b.entropy_nats, tolerance * b.entropy_nats);
    EXPECT_NEAR(a.auxiliary_loss, b.auxiliary_loss,
                tolerance * b.auxiliary_loss)
        << "call " << i;
    EXPECT_NEAR(a.z_loss, b.z_loss, tolerance * b.z_loss);
  }
  EXPECT_EQ(found.transitions, expected.transitions);
}

class ChunksTest : public ::testing::TestWithParam<Options> {};

TEST_P(ChunksTest, AnyNumberOfThemGivesTheSameStep) {
  const Batch batch = packed_batch(GetParam().config.vocabulary);
  for (const DType dtype : {DType::kFloat64, DType::kFloat32}) {
    const double tolerance = dtype == DType::kFloat64 ? 1e-12 : 2e-5;
    ModelFixture one(GetParam().config, dtype, 1);
    one.train(batch);
    const Step expected = result(one);
    for (const int count : {2, 3, 4, 7}) {  // of four rows: some are empty
      SCOPED_TRACE(fmt::format("{} chunks, {}", count, name(dtype)));
      ModelFixture many(GetParam().config, dtype, count);
      many.train(batch);
      expect_same(result(many), expected, tolerance);
    }
  }
}

/// Keeps gradients as they are when it is told that they are complete.
class Taker : public GradientTaker {
 public:
  explicit Taker(Model& model) : model_(&model) {}
  void take(std::size_t group) override {
    for (const ParameterBlock& block : model_->parameters().blocks()) {
      if (block.group != group) continue;
      for (const auto& member : block.members) {
        const std::size_t i = member.parameter;
        order.push_back(i);
        values[i] =
            read_values(model_->backend(), model_->parameters()[i].gradient());
      }
    }
  }
  std::vector<std::size_t> order;
  std::map<std::size_t, Values> values;

 private:
  Model* model_;
};

TEST_P(ChunksTest, GradientsAreTakenOnceEachWhenTheyAreComplete) {
  const Batch batch = packed_batch(GetParam().config.vocabulary);
  for (const int count : {1, 2, 7}) {
    for (const bool recompute : {false, true}) {
      ModelFixture f(GetParam().config, DType::kFloat64, count);
      for (const auto& chunk : f.chunks) chunk->recompute = recompute;
      Taker taker(f.model);
      f.model.train(batch.tokens(), batch.scale(), f.chunks, &taker);
      const std::size_t all = f.model.parameters().size();
      ASSERT_EQ(taker.order.size(), all);
      ASSERT_EQ(taker.values.size(), all);
      EXPECT_EQ(taker.order.front(), all - 1);  // the head's
      EXPECT_EQ(taker.order.back(), 0U);
      for (const auto& [i, values] : taker.values) {
        EXPECT_EQ(values, read_values(f.model.backend(),
                                      f.model.parameters()[i].gradient()))
            << f.model.parameters()[i].name();
      }
    }
  }
}

// Layers computed again give the same bits, count nothing twice, and take less
// memory.
TEST_P(ChunksTest, RecomputedLayersLeaveNoTrace) {
  const Batch batch = packed_batch(GetParam().config.vocabulary);
  for (const DType dtype : {DType::kFloat64, DType::kBFloat16}) {
    for (const int count : {1, 3}) {
      ModelFixture kept(GetParam().config, dtype, count);
      ModelFixture again(GetParam().config, dtype, count);
      for (const auto& chunk : again.chunks) chunk->recompute = true;
      kept.train(batch);
      again.train(batch);
      expect_same(result(again), result(kept), 0);
      std::size_t less = 0, more = 0;
      for (int i = 0; i < count; ++i) {
        const auto at = static_cast<std::size_t>(i);
        less += again.chunks[at]->activations.peak_bytes();
        more += kept.chunks[at]->activations.peak_bytes();
      }
      if (GetParam().config.layers > 1) {
        EXPECT_LT(less, more);
      }
    }
  }
}

// Balance over a batch is by definition one of each accumulation step.
TEST_P(ChunksTest, MicroBatchesAddUpToTheWholeBatch) {
  ModelConfig config = GetParam().config;
  config.router.auxiliary_scope = "sequence";
  const Batch batch = packed_batch(config.vocabulary);
  ModelFixture f(config, DType::kFloat64, 2);
  f.train(batch);
  const Step expected = result(f);
  f.model.parameters().clear_gradients();
  f.model.statistics().clear();
  for (const auto& [begin, end] : {std::pair(0, 1), {1, 2}, {2, 4}}) {
    f.model.train(some_rows(batch, begin, end).tokens(), batch.scale(),
                  f.chunks);
  }
  expect_same(result(f), expected, 1e-12);
}

INSTANTIATE_TEST_SUITE_P(Options, ChunksTest,
                         ::testing::ValuesIn(all_options()), options_name);

TEST(ChunksBatchBalanceTest, MicroBatchesEachWeighTheirShare) {
  ModelConfig config = small_config();
  config.router.auxiliary_scope = "batch";
  const Batch batch = packed_batch(config.vocabulary);
  ModelFixture f(config, DType::kFloat64, 3);
  const naive::Model naive(config, naive_weights(f.model));
  double expected = 0;
  f.model.parameters().clear_gradients();
  f.model.statistics().clear();
  for (const auto& [begin, end] : {std::pair(0, 2), {2, 4}}) {
    const Batch part = some_rows(batch, begin, end);
    LossScale scale = batch.scale();
    scale.per_batch = 0.5;
    expected += naive.run(part.tokens(), scale).auxiliary;
    f.model.train(part.tokens(), scale, f.chunks);
  }
  EXPECT_NEAR(f.auxiliary(), expected, 1e-12);
}

TEST(ChunksBatchBalanceTest, ForcedBalanceIsThatOfOneChunk) {
  ModelConfig config = small_config();
  config.router.force_balanced = true;
  const Batch batch = packed_batch(config.vocabulary);
  ModelFixture one(config, DType::kFloat64, 1);
  ModelFixture three(config, DType::kFloat64, 3);
  one.train(batch);
  three.train(batch);
  expect_same(result(three), result(one), 1e-12);
}

TEST(ChunksMemoryTest, NothingIsAllocatedOnceEveryShapeWasSeen) {
  ModelFixture f(small_config(), DType::kFloat32, 2);
  const Batch batch = packed_batch(f.model.config().vocabulary);
  f.train(batch);
  for (const auto& chunk : f.chunks) {
    chunk->clear();
    chunk->reserve({});
  }
  const auto held = [&] {
    std::size_t sum = 0;
    for (const auto& chunk : f.chunks) {
      sum += chunk->activations.held_bytes() + chunk->scratch.held_bytes();
    }
    return sum;
  };
  const std::size_t before = held();
  f.train(batch);
  EXPECT_EQ(held(), before);
  for (const auto& chunk : f.chunks) {
    EXPECT_EQ(chunk->scratch.used_bytes(), 0u);
  }
}

}  // namespace
}  // namespace catena::testing
