// The model in float64 against a second implementation in plain loops.

#include <algorithm>

#include "tests/layers/model_fixture.h"

namespace catena::testing {
namespace {

void expect_same_routes(const naive::Routes& found,
                        const naive::Routes& expected) {
  ASSERT_EQ(found.size(), expected.size());
  for (const auto& [key, rows] : expected) {
    const auto& others = found.at(key);
    ASSERT_EQ(others.size(), rows.size());
    for (std::size_t i = 0; i < rows.size(); ++i) {
      std::map<std::int32_t, double> weights;
      for (std::size_t j = 0; j < rows[i].experts.size(); ++j) {
        weights[others[i].experts[j]] = others[i].weights[j];
      }
      ASSERT_EQ(weights.size(), rows[i].experts.size());
      for (std::size_t j = 0; j < rows[i].experts.size(); ++j) {
        const auto chosen = weights.find(rows[i].experts[j]);
        ASSERT_NE(chosen, weights.end())
            << "layer " << key.first << " iteration " << key.second << " token "
            << i << " should choose " << rows[i].experts[j];
        EXPECT_NEAR(chosen->second, rows[i].weights[j], 1e-12);
      }
    }
  }
}

class ModelTest : public ::testing::TestWithParam<Options> {};

TEST_P(ModelTest, LogitsAndLossesAreThoseOfPlainLoops) {
  ModelFixture f(GetParam().config, DType::kFloat64);
  const Batch batch = packed_batch(GetParam().config.vocabulary);
  const naive::Model naive(GetParam().config, naive_weights(f.model));
  const naive::Result expected = naive.run(batch.tokens(), batch.scale());

  RouteRecorder recorder(*f.backend);
  f.chunks[0]->observer = &recorder;
  const Values logits = f.logits(batch);
  Values all;
  for (const Values& row : expected.logits) all = naive::joined(all, row);
  EXPECT_LE(largest_difference(logits, all), 1e-10);
  expect_same_routes(recorder.routes(), expected.routes);
  EXPECT_NEAR(f.model.evaluate(batch.tokens(), *f.chunks[0]),
              expected.cross_entropy, 1e-10);

  f.train(batch);
  expect_same_routes(recorder.routes(), expected.routes);
  EXPECT_NEAR(f.model.statistics().total_loss(), expected.cross_entropy, 1e-10);
  EXPECT_NEAR(f.auxiliary(), expected.auxiliary, 1e-12);
  EXPECT_NEAR(f.total(batch.scale()), expected.total, 1e-10);
}

TEST_P(ModelTest, ForcedRoutesAreThoseOfPlainLoops) {
  ModelFixture f(GetParam().config, DType::kFloat64);
  const Batch batch = packed_batch(GetParam().config.vocabulary, 5);
  const naive::Model naive(GetParam().config, naive_weights(f.model));
  // Routes that nobody would choose: those of another batch, reversed.
  naive::Routes routes =
      naive
          .run(packed_batch(GetParam().config.vocabulary, 6).tokens(),
               batch.scale())
          .routes;
  for (auto& [key, rows] : routes) std::reverse(rows.begin(), rows.end());
  const naive::Result expected =
      naive.run(batch.tokens(), batch.scale(), routes);

  RouteRecorder recorder(*f.backend);
  recorder.replay(routes);
  f.chunks[0]->observer = &recorder;
  f.train(batch);
  expect_same_routes(recorder.routes(), expected.routes);
  EXPECT_NEAR(f.total(batch.scale()), expected.total, 1e-10);
}

INSTANTIATE_TEST_SUITE_P(Options, ModelTest, ::testing::ValuesIn(all_options()),
                         options_name);

TEST(ModelForceBalancedTest, RoutesAreDealtOutInTurn) {
  ModelConfig config = small_config();
  config.router.force_balanced = true;
  ModelFixture f(config, DType::kFloat64);
  const Batch batch = packed_batch(config.vocabulary);
  naive::Routes routes;
  for (std::int64_t layer = 0; layer < config.layers; ++layer) {
    for (std::int64_t t = 0; t < config.chain.iterations; ++t) {
      std::int64_t next = 0;
      for (std::int64_t i = 0; i < batch.size(); ++i) {
        naive::Route route;
        for (std::int64_t j = 0; j < config.chain.top_k; ++j) {
          route.experts.push_back(
              static_cast<std::int32_t>(next++ % config.chain.routed_experts));
        }
        routes[{layer, t}].push_back(route);
      }
    }
  }
  const naive::Model naive(config, naive_weights(f.model));
  f.train(batch);
  EXPECT_NEAR(f.total(batch.scale()),
              naive.run(batch.tokens(), batch.scale(), routes).total, 1e-10);
}

TEST(ModelTrainTest, TwiceTheSameBitsAndTwiceTheGradient) {
  ModelFixture f(small_config(), DType::kFloat32);
  const Batch batch = packed_batch(f.model.config().vocabulary);
  f.train(batch);
  const auto once = gradients(f.model);
  f.train(batch);
  EXPECT_EQ(gradients(f.model), once);
  f.model.train(batch.tokens(), batch.scale(), f.chunks);
  for (const auto& [name, gradient] : gradients(f.model)) {
    Values twice = once.at(name);
    for (double& value : twice) value *= 2;
    EXPECT_LE(relative_error(gradient, twice), 1e-6) << name;
  }
}

}  // namespace
}  // namespace catena::testing
