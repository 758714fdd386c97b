#include "layers/parameter.h"

#include <gtest/gtest.h>

#include <cmath>

#include "layers/model.h"
#include "tests/layers/model_options.h"

namespace catena::testing {
namespace {

ParameterSpec two_parts(const std::string& first, const std::string& second) {
  return {.shape = {5, 4},
          .parts = {{first, 0, {2, 4}}, {second, 8, {3, 4}}},
          .initializer = Initializer::kNormal,
          .range = 0.5};
}

TEST(ParameterTest, StartsFromSeedAndNameAlone) {
  const auto backend = make_cpu_backend(1);
  ParameterSet joined(*backend, {DType::kFloat64});
  ParameterSet apart(*backend, {DType::kFloat64});
  joined.add(two_parts("a", "b"));
  apart.add({.shape = {3, 4}, .parts = {{"b", 0, {3, 4}}}, .range = 0.5});
  joined.initialize(3);
  apart.initialize(3);
  const auto found = joined.find("b");
  const auto b =
      read_values(*backend, part_of(found.parameter->master(), *found.part));
  EXPECT_EQ(b, read_values(*backend, apart[0].master()));
  apart.initialize(4);
  EXPECT_NE(b, read_values(*backend, apart[0].master()));
}

TEST(ParameterTest, InitializersKeepTheirDistributions) {
  const auto backend = make_cpu_backend(1);
  ParameterSet set(*backend, {DType::kFloat64});
  const Shape shape{100, 200};
  for (const Initializer kind : {Initializer::kOnes, Initializer::kZeros,
                                 Initializer::kNormal, Initializer::kUniform}) {
    set.add({.shape = shape,
             .parts = {{fmt::format("p{}", static_cast<int>(kind)), 0, shape}},
             .initializer = kind,
             .range = 0.3});
  }
  set.initialize(1);
  for (const double value : read_values(*backend, set[0].master())) {
    ASSERT_EQ(value, 1);
  }
  for (const double value : read_values(*backend, set[1].master())) {
    ASSERT_EQ(value, 0);
  }
  const auto moments = [&](std::size_t p) {
    double mean = 0, square = 0, largest = 0;
    for (const double value : read_values(*backend, set[p].master())) {
      mean += value / 20000;
      square += value * value / 20000;
      largest = std::fmax(largest, std::abs(value));
    }
    return std::array{mean, square, largest};
  };
  // 20,000 draws: the mean is within 5 of its standard deviations, 0.0021.
  const auto normal = moments(2), uniform = moments(3);
  EXPECT_NEAR(normal[0], 0, 0.011);
  EXPECT_NEAR(normal[1], 0.09, 0.005);
  EXPECT_GT(normal[2], 0.9);
  EXPECT_NEAR(uniform[0], 0, 0.007);
  EXPECT_NEAR(uniform[1], 0.03, 0.002);
  EXPECT_LE(uniform[2], 0.3);
}

TEST(ParameterTest, CopiesAreRoundedMastersOfMatricesOnly) {
  const auto backend = make_cpu_backend(1);
  ParameterSet set(*backend, {DType::kBFloat16});
  Parameter& matrix = set.add(two_parts("a", "b"));
  Parameter& vector = set.add({.shape = {4},
                               .parts = {{"norm", 0, {4}}},
                               .initializer = Initializer::kOnes,
                               .matrix = false});
  set.initialize(2);
  EXPECT_EQ(matrix.master().dtype(), DType::kFloat32);
  EXPECT_EQ(matrix.gradient().dtype(), DType::kFloat32);
  EXPECT_EQ(matrix.weight().dtype(), DType::kBFloat16);
  EXPECT_FALSE(vector.copy().defined());
  EXPECT_EQ(vector.weight().data(), vector.master().data());
  auto expected = read_values(*backend, matrix.master());
  for (double& value : expected) {
    value = static_cast<float>(BFloat16(static_cast<float>(value)));
  }
  EXPECT_EQ(read_values(*backend, matrix.copy()), expected);
}

// What all ranks hold of a group is one run of memory, products' weights first.
TEST(ParameterTest, AGroupLiesSideBySide) {
  const auto backend = make_cpu_backend(1);
  ParameterSet set(*backend, {DType::kBFloat16});
  set.add(two_parts("alone", "too"));
  set.add_group([&] {
    set.add({.shape = {4}, .parts = {{"norm", 0, {4}}}, .matrix = false});
    set.add(two_parts("a", "b"));
    ParameterSpec cut = two_parts("c", "d");
    cut.sections = {{0, 8}, {8, 12}};
    set.add(cut);
    set.add(two_parts("e", "f"));
  });
  ASSERT_EQ(set.groups(), 2U);
  ASSERT_EQ(set.blocks().size(), 3U);
  const auto members = [&](std::size_t i) {
    std::vector<std::size_t> result;
    for (const auto& member : set.blocks()[i].members) {
      result.push_back(member.parameter);
    }
    return result;
  };
  EXPECT_EQ(members(0), std::vector<std::size_t>{0});
  EXPECT_EQ(members(1), (std::vector<std::size_t>{2, 4, 1}));
  EXPECT_EQ(members(2), std::vector<std::size_t>{3});
  for (const ParameterBlock& block : set.blocks()) {
    const auto at = [](TensorView whole, std::int64_t begin) {
      return static_cast<std::byte*>(whole.data()) +
             begin * size_bytes(whole.dtype());
    };
    for (const auto& [parameter, begin] : block.members) {
      const Parameter& p = set[parameter];
      EXPECT_EQ(begin * 2 % 64, 0);
      EXPECT_EQ(p.master().data(), at(block.master.view(), begin));
      EXPECT_EQ(p.gradient().data(), at(block.gradient.view(), begin));
      if (!p.spec().matrix) continue;
      EXPECT_EQ(p.copy().data(), at(block.copy.view(), begin));
      EXPECT_LE(begin + p.elements(), block.copy.view().elements());
    }
  }
}

TEST(ParameterTest, FindsPartsByNameAndRefusesOthers) {
  const auto backend = make_cpu_backend(1);
  ParameterSet set(*backend, {DType::kFloat32});
  set.add(two_parts("a", "b"));
  EXPECT_EQ(set.find("b").part->begin, 8);
  EXPECT_THROW((void)set.find("c"), Error);
  EXPECT_THROW(set.add({.shape = {2}, .parts = {}}), Error);
}

TEST(ParameterTest, ValuesTravelThroughEveryType) {
  const auto backend = make_cpu_backend(1);
  for (const DType dtype : {DType::kFloat32, DType::kBFloat16, DType::kFloat64,
                            DType::kInt32, DType::kInt64}) {
    const Tensor tensor(*backend, dtype, {2, 3});
    const std::vector<double> values{-2, 0, 1, 3, 64, -128};
    write_values(*backend, tensor.view(), values);
    EXPECT_EQ(read_values(*backend, tensor.view()), values) << name(dtype);
    EXPECT_THROW(write_values(*backend, tensor.view(), {1}), Error);
    EXPECT_THROW((void)read_values(*backend, tensor.view().slice(1, 0, 2)),
                 Error);
  }
}

// Parameters in the layers as the published sizes have them.
TEST(ModelSizeTest, IsThatOfThePaper) {
  struct Case {
    int iterations, routed, top_k;
    std::int64_t parameters;
  };
  for (const Case& c :
       {Case{1, 63, 8, 780'672'000}, Case{2, 63, 4, 780'930'048},
        Case{2, 47, 4, 642'386'944}}) {
    ModelConfig m;
    m.hidden = 1024;
    m.layers = 4;
    m.vocabulary = 102'400;
    m.attention = {.kind = "mla",
                   .heads = 8,
                   .q_lora_rank = 0,
                   .kv_lora_rank = 512,
                   .qk_nope_size = 128,
                   .qk_rope_size = 64,
                   .v_size = 128};
    m.chain.iterations = c.iterations;
    m.chain.routed_experts = c.routed;
    m.chain.top_k = c.top_k;
    m.chain.intermediate = 704;
    const auto meta = make_meta_backend();
    Model model(*meta, m, {DType::kFloat32});
    EXPECT_EQ(model.parameters().elements(), c.parameters);
  }
}

}  // namespace
}  // namespace catena::testing
