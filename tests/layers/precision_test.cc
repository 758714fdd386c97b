// Narrow types stay near the wide ones. Routes are those of the wide run:
// rounding may flip a choice, which is no error but a jump.

#include "tests/layers/model_fixture.h"

namespace catena::testing {
namespace {

class PrecisionTest : public ::testing::TestWithParam<Options> {};

double cosine(const Values& a, const Values& b) {
  return naive::dot(a, b) / (norm(a) * norm(b));
}

ModelConfig wider(ModelConfig config) {
  config.hidden = 32;
  config.initializer_range = 0.12;
  return config;
}

TEST_P(PrecisionTest, Float32IsNearFloat64) {
  ModelFixture wide(GetParam().config, DType::kFloat64);
  ModelFixture narrow(GetParam().config, DType::kFloat32);
  const Batch batch = packed_batch(GetParam().config.vocabulary);
  RouteRecorder routes(*wide.backend), forced(*narrow.backend);
  wide.chunks[0]->observer = &routes;
  wide.train(batch);
  forced.replay(routes.routes());
  narrow.chunks[0]->observer = &forced;
  narrow.train(batch);
  EXPECT_NEAR(narrow.total(batch.scale()), wide.total(batch.scale()), 1e-5);
  const auto expected = gradients(wide.model);
  for (const auto& [name, gradient] : gradients(narrow.model)) {
    EXPECT_LE(relative_error(gradient, expected.at(name)), 1e-4) << name;
  }
}

TEST_P(PrecisionTest, BFloat16IsNearFloat32) {
  const ModelConfig config = wider(GetParam().config);
  ModelFixture wide(config, DType::kFloat32);
  ModelFixture narrow(config, DType::kBFloat16);
  const Batch batch = packed_batch(config.vocabulary);
  RouteRecorder routes(*wide.backend), forced(*narrow.backend);
  wide.chunks[0]->observer = &routes;
  wide.train(batch);
  forced.replay(routes.routes());
  narrow.chunks[0]->observer = &forced;
  narrow.train(batch);
  const double expected_loss = wide.total(batch.scale());
  EXPECT_NEAR(narrow.total(batch.scale()), expected_loss, 2e-2 * expected_loss);
  const auto expected = gradients(wide.model);
  Values all_narrow, all_wide;
  for (const auto& [name, gradient] : gradients(narrow.model)) {
    for (const double value : gradient) ASSERT_TRUE(std::isfinite(value));
    const Values& other = expected.at(name);
    all_narrow = naive::joined(all_narrow, gradient);
    all_wide = naive::joined(all_wide, other);
    // Experts of a handful of tokens carry their tokens' rounding undamped.
    if (gradient.size() < 256 || name.find(".experts.") != name.npos) continue;
    EXPECT_GT(cosine(gradient, other), 0.99) << name;
  }
  EXPECT_GT(cosine(all_narrow, all_wide), 0.999);
}

INSTANTIATE_TEST_SUITE_P(Options, PrecisionTest,
                         ::testing::ValuesIn(all_options()), options_name);

TEST(PrecisionThreadsTest, DoNotChangeABit) {
  const Batch batch = packed_batch(small_config().vocabulary);
  for (const DType dtype :
       {DType::kFloat32, DType::kBFloat16, DType::kFloat64}) {
    ModelFixture one(small_config(), dtype, 2, 1);
    one.train(batch);
    for (const int threads : {2, 3}) {
      ModelFixture many(small_config(), dtype, 2, threads);
      many.train(batch);
      EXPECT_EQ(gradients(many.model), gradients(one.model))
          << name(dtype) << ", " << threads << " threads";
    }
  }
}

}  // namespace
}  // namespace catena::testing
