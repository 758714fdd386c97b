#include "training/optimizer.h"

#include <gtest/gtest.h>

#include <cmath>

namespace catena {
namespace {

class OptimizerTest : public testing::Test {
 protected:
  OptimizerTest() : backend_(make_cpu_backend(1)) {}

  Parameter& add(ParameterSet& set, const char* name, const Shape& shape,
                 std::vector<double> value, std::vector<double> gradient) {
    Parameter& p = set.add({.shape = shape, .parts = {{name, 0, shape}}});
    write_values(*backend_, p.master(), value);
    write_values(*backend_, p.gradient(), gradient);
    return p;
  }

  std::unique_ptr<Backend> backend_;
};

TEST_F(OptimizerTest, NormCountsEveryElementOnce) {
  ParameterSet set(*backend_, {DType::kFloat32});
  add(set, "a", {2}, {0, 0}, {3, 0});
  add(set, "b", {1, 2}, {0, 0}, {0, -4});
  Optimizer optimizer(set, {});
  EXPECT_DOUBLE_EQ(optimizer.gradient_norm(), 5);
}

TEST_F(OptimizerTest, ClipsOnlyLargeNorms) {
  ParameterSet set(*backend_, {DType::kFloat32});
  const Optimizer one(set, {.clip = 1});
  EXPECT_EQ(one.clip_scale(0.5), 1);
  EXPECT_NEAR(one.clip_scale(4), 0.25, 1e-6);
  const Optimizer off(set, {.clip = 0});
  EXPECT_EQ(off.clip_scale(1e9), 1);
}

TEST_F(OptimizerTest, FollowsTheFormulaForTwoSteps) {
  ParameterSet set(*backend_, {DType::kFloat64});
  Parameter& p = add(set, "a", {1}, {2}, {0.5});
  const OptimizerConfig config{.weight_decay = 0.1};
  Optimizer optimizer(set, config);
  double x = 2, m = 0, v = 0;
  for (int step = 1; step <= 2; ++step) {
    const double gradient = 0.5 * step;
    write_values(*backend_, p.gradient(), {gradient});
    optimizer.update(0.01, 0.5, step);
    const double g = gradient * 0.5;
    m = 0.9 * m + 0.1 * g;
    v = 0.95 * v + 0.05 * g * g;
    x = x * (1 - 0.01 * 0.1) -
        0.01 * (m / (1 - std::pow(0.9, step))) /
            (std::sqrt(v / (1 - std::pow(0.95, step))) + 1e-8);
    EXPECT_NEAR(read_values(*backend_, p.master())[0], x, 1e-14);
    EXPECT_EQ(read_values(*backend_, p.gradient())[0], 0);
  }
}

TEST_F(OptimizerTest, MatricesOnlySparesVectors) {
  ParameterSet set(*backend_, {DType::kFloat64});
  const Parameter& vector = add(set, "norm", {1}, {2}, {0});
  const Parameter& matrix = add(set, "matrix", {1, 1}, {2}, {0});
  Optimizer optimizer(set, {.weight_decay = 0.5, .decay = "matrices"});
  optimizer.update(0.1, 1, 1);
  EXPECT_EQ(read_values(*backend_, vector.master())[0], 2);
  EXPECT_DOUBLE_EQ(read_values(*backend_, matrix.master())[0],
                   2 * (1 - 0.1 * 0.5));
}

TEST_F(OptimizerTest, RenewsRoundedCopies) {
  ParameterSet set(*backend_, {DType::kBFloat16});
  const Parameter& p = add(set, "a", {1, 1}, {1}, {1});
  Optimizer optimizer(set, {});
  optimizer.update(0.25, 1, 1);
  const double master = read_values(*backend_, p.master())[0];
  EXPECT_EQ(read_values(*backend_, p.weight())[0],
            static_cast<float>(BFloat16(static_cast<float>(master))));
  EXPECT_LT(master, 0.8);
}

}  // namespace
}  // namespace catena
