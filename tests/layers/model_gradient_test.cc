// Gradients of a whole training step against finite differences of the other
// implementation's loss.

#include <algorithm>

#include "tests/layers/model_fixture.h"
#include "tests/support/gradient_check.h"

namespace catena::testing {
namespace {

class ModelGradientTest : public ::testing::TestWithParam<Options> {};

TEST_P(ModelGradientTest, EveryParameterIsThatOfFiniteDifferences) {
  ModelFixture f(GetParam().config, DType::kFloat64);
  Batch batch;
  add_row(batch, {4, 2, 1}, GetParam().config.vocabulary, 3);
  add_row(batch, {1}, GetParam().config.vocabulary, 3);
  add_row(batch, {5}, GetParam().config.vocabulary, 3);
  // Unequal factors, so that none can stand in for another.
  const LossScale scale{.per_trained_token = 0.11,
                        .per_sequence = 0.7,
                        .per_token = 0.19,
                        .per_batch = 0.83};
  naive::Model naive(GetParam().config, naive_weights(f.model));
  const naive::Routes routes = naive.run(batch.tokens(), scale).routes;
  f.train(batch, scale);

  const auto loss = [&] {
    return naive.run(batch.tokens(), scale, routes).total;
  };
  for (const auto& [name, gradient] : gradients(f.model)) {
    Values& weight = naive.weights().at(name);
    check_gradient({name, weight, gradient,
                    [&weight](const Values& values) { weight = values; }},
                   loss, 2);
  }
}

TEST_P(ModelGradientTest, OfAnExpertThatNobodyChoseIsExactlyZero) {
  const ModelConfig& config = GetParam().config;
  // Even experts first, so that idle ones lie between chosen ones.
  const auto expert = [&](std::int64_t choice) {
    const std::int64_t even = (config.chain.routed_experts + 1) / 2;
    return static_cast<std::int32_t>(choice < even ? 2 * choice
                                                   : 2 * (choice - even) + 1);
  };
  ModelFixture f(config, DType::kFloat32);
  const Batch batch = packed_batch(config.vocabulary);
  naive::Routes routes;
  for (std::int64_t layer = 0; layer < config.chain_layers(); ++layer) {
    for (std::int64_t t = 0; t < config.chain.iterations; ++t) {
      naive::Route route;
      for (std::int64_t j = 0; j < config.chain.top_k; ++j) {
        route.experts.push_back(expert(j));
      }
      routes[{layer, t}].assign(batch.ids.size(), route);
    }
  }
  RouteRecorder recorder(*f.backend);
  recorder.replay(routes);
  f.chunks[0]->observer = &recorder;
  f.train(batch);
  for (const auto& [name, gradient] : gradients(f.model)) {
    bool chosen = true;
    for (std::int64_t j = 0; j < config.chain.routed_experts; ++j) {
      if (name.find(fmt::format(".experts.{}.", expert(j))) != name.npos) {
        chosen = j < config.chain.top_k;
      }
    }
    const bool zero = std::all_of(gradient.begin(), gradient.end(),
                                  [](double value) { return value == 0; });
    EXPECT_EQ(zero, !chosen) << name;
  }
}

INSTANTIATE_TEST_SUITE_P(Options, ModelGradientTest,
                         ::testing::ValuesIn(all_options()), options_name);

}  // namespace
}  // namespace catena::testing
