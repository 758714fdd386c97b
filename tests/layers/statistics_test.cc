#include "layers/statistics.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <numeric>
#include <set>

#include "tests/layers/model_fixture.h"

namespace catena::testing {
namespace {

double sum(const Values& values) {
  return std::accumulate(values.begin(), values.end(), 0.0);
}

class StatisticsTest : public ::testing::TestWithParam<Options> {};

TEST_P(StatisticsTest, CountEveryChoiceOnce) {
  const ModelConfig& config = GetParam().config;
  ModelFixture f(config, DType::kFloat32, 2);
  const Batch batch = packed_batch(config.vocabulary);
  f.train(batch);
  const auto tokens = static_cast<double>(batch.size());
  const auto k = static_cast<double>(config.chain.top_k);
  f.for_each_call([&](const RouteSummary& call) {
    EXPECT_EQ(sum(call.load), tokens * k);
    EXPECT_EQ(call.tokens, tokens);
    EXPECT_GT(call.entropy_nats, 0);
    EXPECT_LE(call.entropy_nats,
              std::log(static_cast<double>(config.chain.routed_experts)));
    EXPECT_GE(call.max_to_mean(), 1);
    EXPECT_EQ(call.idle(), std::count(call.load.begin(), call.load.end(), 0.0));
  });
}

// A float32 counts to 2^24 and no further: less than a batch of thousands of
// ranks.
TEST_P(StatisticsTest, CountBeyondWhatAFloat32Does) {
  const ModelConfig& config = GetParam().config;
  ModelFixture f(config, DType::kFloat32, 2);
  const Batch batch = packed_batch(config.vocabulary);
  f.train(batch);
  RoutingStatistics& statistics = f.model.statistics();
  if (statistics.layers() == 0) return;
  const TensorView load = statistics.cell(0, 0).load;
  const RouteSummary once = statistics.summary(0, 0);
  constexpr double kMany = (1 << 24) + 1;
  const std::vector<double> before(once.load.size(), kMany);
  ASSERT_EQ(load.bytes(), static_cast<std::int64_t>(before.size() * 8));
  f.model.backend().copy_from_host(load.data(), before.data(),
                                   static_cast<std::size_t>(load.bytes()));
  f.model.train(batch.tokens(), batch.scale(), f.chunks);
  const RouteSummary twice = statistics.summary(0, 0);
  for (std::size_t e = 0; e < before.size(); ++e) {
    EXPECT_EQ(twice.load[e], kMany + once.load[e]) << e;
  }
}

TEST_P(StatisticsTest, TransitionsJoinTheLoadsOfTwoIterations) {
  const ModelConfig& config = GetParam().config;
  ModelFixture f(config, DType::kFloat32, 3);
  const Batch batch = packed_batch(config.vocabulary);
  f.train(batch);
  const RoutingStatistics& statistics = f.model.statistics();
  const auto experts = static_cast<std::size_t>(config.chain.routed_experts);
  const auto k = static_cast<double>(config.chain.top_k);
  for (std::int64_t layer = 0; layer < statistics.layers(); ++layer) {
    for (std::int64_t t = 0; t + 1 < statistics.iterations(); ++t) {
      const auto counts = statistics.transitions(layer, t);
      ASSERT_EQ(counts.size(), experts * experts);
      Values from(experts, 0.0), to(experts, 0.0);
      for (std::size_t i = 0; i < counts.size(); ++i) {
        from[i / experts] += static_cast<double>(counts[i]);
        to[i % experts] += static_cast<double>(counts[i]);
      }
      for (std::size_t e = 0; e < experts; ++e) {
        EXPECT_EQ(from[e], k * statistics.summary(layer, t).load[e]);
        EXPECT_EQ(to[e], k * statistics.summary(layer, t + 1).load[e]);
      }
    }
  }
}

TEST_P(StatisticsTest, AreNotTouchedByEvaluation) {
  ModelFixture f(GetParam().config, DType::kFloat32);
  const Batch batch = packed_batch(GetParam().config.vocabulary);
  f.model.statistics().clear();
  EXPECT_GT(f.model.evaluate(batch.tokens(), *f.chunks[0]), 0);
  (void)f.logits(batch);
  EXPECT_EQ(f.model.statistics().total_loss(), 0);
  f.for_each_call([](const RouteSummary& call) { EXPECT_EQ(call.tokens, 0); });
  for (const auto& [name, gradient] : gradients(f.model)) {
    EXPECT_EQ(norm(gradient), 0) << name;
  }
}

TEST_P(StatisticsTest, RecordedRoutesReplayToTheSameBits) {
  ModelFixture f(GetParam().config, DType::kFloat32);
  const Batch batch = packed_batch(GetParam().config.vocabulary);
  RouteRecorder recorder(*f.backend);
  f.chunks[0]->observer = &recorder;
  f.train(batch);
  const auto free = gradients(f.model);
  const double loss = f.model.statistics().total_loss();
  recorder.replay();
  f.train(batch);
  EXPECT_EQ(f.model.statistics().total_loss(), loss);
  EXPECT_EQ(gradients(f.model), free);
}

INSTANTIATE_TEST_SUITE_P(Options, StatisticsTest,
                         ::testing::ValuesIn(all_options()), options_name);

TEST(ForceBalancedTest, LoadsDifferByOneAtMost) {
  ModelConfig config = small_config();
  config.router.force_balanced = true;
  for (const int chunks : {1, 3}) {
    ModelFixture f(config, DType::kFloat32, chunks);
    f.train(packed_batch(config.vocabulary));
    f.for_each_call([](const RouteSummary& call) {
      const auto [low, high] =
          std::minmax_element(call.load.begin(), call.load.end());
      EXPECT_LE(*high - *low, 1);
    });
  }
}

TEST(RouterBiasTest, MovesTowardsBalance) {
  for (const bool independent : {true, false}) {
    ModelConfig config = small_config();
    config.router.correction_bias = true;
    config.router.bias_update_rate = 0.25;
    config.chain.independent_gates = independent;
    ModelFixture f(config, DType::kFloat32);
    f.train(packed_batch(config.vocabulary));
    std::vector<Values> before;
    for (Chain* chain : f.model.chains()) {
      for (std::int64_t t = 0; t < chain->routers(); ++t) {
        before.push_back(read_values(*f.backend, chain->router(t).bias()));
      }
    }
    f.model.update_router_biases();
    std::size_t next = 0;
    for (std::size_t layer = 0; layer < f.model.chains().size(); ++layer) {
      const Chain* chain = f.model.chains()[layer];
      for (std::int64_t t = 0; t < chain->routers(); ++t) {
        Values load = f.model.statistics()
                          .summary(static_cast<std::int64_t>(layer), t)
                          .load;
        if (!independent) {  // one router answers for both iterations
          naive::add(load, f.model.statistics()
                               .summary(static_cast<std::int64_t>(layer), 1)
                               .load);
        }
        const double mean = sum(load) / static_cast<double>(load.size());
        const Values after = read_values(*f.backend, chain->router(t).bias());
        for (std::size_t e = 0; e < load.size(); ++e) {
          const double sign = load[e] < mean ? 1 : load[e] > mean ? -1 : 0;
          EXPECT_NEAR(after[e] - before[next][e], 0.25 * sign, 1e-6);
        }
        ++next;
      }
    }
  }
}

// In the limit of a large bias the choice follows it, the weights do not.
TEST(RouterBiasTest, DecidesTheChoiceAndNotTheWeight) {
  ModelConfig config = small_config();
  config.router.correction_bias = true;
  config.router.score = "sigmoid";
  ModelFixture f(config, DType::kFloat64);
  Router& router = f.model.chains()[0]->router(0);
  write_values(*f.backend, router.bias(), {9, 0, 9, 0, 0, 9, 0, 0});
  RouteRecorder recorder(*f.backend);
  f.chunks[0]->observer = &recorder;
  (void)f.logits(packed_batch(config.vocabulary));
  const naive::Routes routes = recorder.routes();
  for (const naive::Route& route : routes.at({0, 0})) {
    const std::set<std::int32_t> chosen(route.experts.begin(),
                                        route.experts.end());
    EXPECT_EQ(chosen, (std::set<std::int32_t>{0, 2, 5}));
    for (const double weight : route.weights) EXPECT_LT(weight, 1);
  }
}

TEST(ObserverTest, SeesEveryStageByName) {
  ModelConfig config = small_config();
  config.dense_layers = 1;
  ModelFixture f(config, DType::kFloat32);
  RouteRecorder recorder(*f.backend);
  f.chunks[0]->observer = &recorder;
  f.train(packed_batch(config.vocabulary));
  EXPECT_THAT(
      recorder.names(),
      ::testing::ElementsAre(
          "model.embed_tokens.output", "model.layers.0.self_attn.output",
          "model.layers.0.output", "model.layers.1.self_attn.output",
          "model.layers.1.mlp.0.output", "model.layers.1.mlp.1.output",
          "model.layers.1.output", "loss",
          "model.layers.1.mlp.1.input.gradient",
          "model.layers.1.mlp.0.input.gradient",
          "model.layers.1.input.gradient", "model.layers.0.input.gradient"));
}

}  // namespace
}  // namespace catena::testing
