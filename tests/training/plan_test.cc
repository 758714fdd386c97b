#include "training/plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "runtime/base/files.h"
#include "tests/support/json.h"
#include "training/combinations.h"
#include "training/kernel_table.h"

namespace catena {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

Config load_config(const std::string& name) {
  Config config;
  config::Schema schema;
  describe(schema, config);
  load(schema, config, fs::path(CATENA_SOURCE_DIR) / "configs" / name, {});
  config.data.cache = "/nonexistent";
  return config;
}

struct Published {
  const char* file;
  const char* name;
  std::int64_t in_layers, in_all;
};

// Source: arXiv 2506.18945 and its trainer's logs.
class PaperPlanTest : public testing::TestWithParam<Published> {};

TEST_P(PaperPlanTest, CountsThePublishedParameters) {
  const Config config = load_config(GetParam().file);
  const Plan plan = make_plan(config, {DType::kBFloat16});
  EXPECT_EQ(plan.name, GetParam().name);
  EXPECT_EQ(plan.needs.layer_parameters, GetParam().in_layers);
  EXPECT_EQ(plan.needs.parameters, GetParam().in_all);
  const auto json = json_of(plan_json(plan, config));
  EXPECT_EQ(json["parameters_in_layers"], GetParam().in_layers);
  EXPECT_EQ(json["parameters"], GetParam().in_all);
  EXPECT_TRUE(json["step_seconds"].is_null());
  const ModelConfig& m = config.model;
  // A token passes top_k of the routed experts in every iteration.
  const std::int64_t idle =
      m.chain.routed_experts - m.chain.top_k * m.chain.iterations;
  EXPECT_EQ(json["parameters_active_a_token"],
            GetParam().in_all -
                m.layers * idle * 3 * m.hidden * m.chain.intermediate);
  std::int64_t memory = 0;
  for (const auto& [kind, bytes] : json["memory"].items()) {
    EXPECT_GT(bytes, 0) << kind;
    memory += bytes.get<std::int64_t>();
  }
  EXPECT_EQ(json["memory_bytes"], memory);
  EXPECT_THAT(plan_text(plan, config), HasSubstr("a chain layer"));
}

INSTANTIATE_TEST_SUITE_P(
    Configs, PaperPlanTest,
    testing::Values(
        Published{"paper/moe-8-64.toml", "MoE(8/64)", 570955776, 780672000},
        Published{"paper/coe-2-4-64.toml", "CoE-2(4/64)", 571213824, 780930048},
        Published{"paper/coe-2-4-48.toml", "CoE-2(4/48)", 432670720,
                  642386944}),
    [](const auto& info) { return "case" + std::to_string(info.index); });

// Sums of the dense gradients are all but one share of each. A rank sends its
// share of the weights to all others; the first rank's is of matrices alone, in
// bfloat16.
TEST(RanksPlanTest, ARankHoldsItsShareAndSendsWhatTheFormulasSay) {
  const Config config = load_config("paper/coe-2-4-64.toml");
  const Plan one = make_plan(config, {DType::kBFloat16});
  const Plan eight = make_plan(config, {DType::kBFloat16}, 8);
  EXPECT_EQ(eight.mesh.expert, 8);
  EXPECT_EQ(eight.needs.parameters, one.needs.parameters);
  EXPECT_EQ(eight.needs.flops_per_token, one.needs.flops_per_token);
  const ModelConfig& m = config.model;
  const std::int64_t expert = 3 * m.hidden * m.chain.intermediate * m.layers;
  const std::int64_t dense =
      one.needs.parameters - m.chain.routed_experts * expert;
  EXPECT_EQ(eight.needs.gradient_bytes, 4 * (dense + 8 * expert));
  EXPECT_NEAR(
      static_cast<double>(eight.needs.optimizer_bytes),
      8.0 * (static_cast<double>(dense) / 8 + static_cast<double>(8 * expert)),
      1000);
  const auto& sent = eight.needs.exchange_bytes;
  const double shared = 4 * 7.0 / 8 * static_cast<double>(dense);
  EXPECT_NEAR(sent.at("gradients"), shared, 1e-5 * shared);
  EXPECT_NEAR(sent.at("parameters"), shared / 2, 1e-5 * shared);
  // Of 63 experts, eight on most ranks: 1 - C(55, 4) / C(63, 4) of the tokens
  // go to each of the seven others, once an iteration.
  const double there = 1 - 55.0 * 54 * 53 * 52 / (63.0 * 62 * 61 * 60);
  const double rows = static_cast<double>(config.train.batch_tokens) / 8 * 7 *
                      there * static_cast<double>(m.layers) * 2;
  const double bytes = rows * static_cast<double>(m.hidden) * 2;
  EXPECT_NEAR(sent.at("dispatch"), bytes, 0.02 * bytes);
  EXPECT_NEAR(sent.at("combine"), bytes, 0.02 * bytes);
  EXPECT_NEAR(sent.at("combine gradient"), bytes, 0.02 * bytes);
  EXPECT_THAT(plan_text(eight, config), HasSubstr("8: 1 x 8 (data x expert)"));
  const auto json = json_of(plan_json(eight, config));
  EXPECT_EQ(json["ranks"], 8);
  EXPECT_EQ(json["exchange_bytes_a_step"]["dispatch"], sent.at("dispatch"));
}

TEST(RanksPlanTest, WhatHasToFitAreTheRanksOfOneMachine) {
  Config config = load_config("quickstart.toml");
  Plan plan = make_plan(config, {}, 4);
  const std::int64_t rank = plan.needs.total_bytes();
  // Nothing says that there are other machines.
  plan.memory_bytes = 4 * rank - 1;
  EXPECT_EQ(json_of(plan_json(plan, config))["fits"], false);
  config.parallel.ranks_per_node = 2;
  plan = make_plan(config, {}, 4);
  plan.memory_bytes = 2 * rank;
  const auto json = json_of(plan_json(plan, config));
  EXPECT_EQ(json["fits"], true);
  EXPECT_EQ(json["memory_bytes_a_node"], 2 * rank);
  EXPECT_THAT(plan_text(plan, config), HasSubstr("with 2 ranks; this machine"));
  plan.memory_bytes = 2 * rank - 1;
  EXPECT_EQ(json_of(plan_json(plan, config))["fits"], false);
}

TEST(RanksPlanTest, TakesTheRankThatHoldsTheMostOfAnUnevenPlacement) {
  Config config = load_config("quickstart.toml");
  const fs::path file = fs::path(testing::TempDir()) /
                        fmt::format("placement-{}.toml", ::getpid());
  std::string experts;
  for (int e = 0; e < config.model.chain.routed_experts; ++e) {
    experts += e == 0 ? "0" : ", 1";
  }
  write_file_atomically(file,
                        fmt::format("ranks = 2\nexperts = [{}]\n", experts));
  config.parallel.placement_file = file;
  const Mesh mesh = config.mesh(2);
  const Precision precision{DType::kFloat32};
  const Estimate few = estimate(config, precision, mesh, 0);
  const Estimate most = estimate(config, precision, mesh, 1);
  EXPECT_GT(most.weight_bytes, few.weight_bytes);
  EXPECT_EQ(estimate(config, precision, mesh).weight_bytes, most.weight_bytes);
  fs::remove(file);
}

TEST(RanksPlanTest, EveryRankCanBeEstimated) {
  Config config = load_config("quickstart.toml");
  config.model.layers = 2;
  for (const bool crosses : {false, true}) {
    config.parallel.hierarchical = crosses;
    config.parallel.ranks_per_node = crosses ? 2 : 0;
    for (const int world : {2, 3, 4, 7, 8}) {
      if (crosses && world % 2 != 0) continue;
      const Mesh mesh = config.mesh(world);
      for (int rank = 0; rank < world; ++rank) {
        const Estimate needs = estimate(config, {DType::kFloat32}, mesh, rank);
        EXPECT_GT(needs.total_bytes(), 0) << rank << " of " << world;
      }
    }
  }
}

TEST(RanksPlanTest, WhatIsTooLargeSaysForWhichRanksAndWhatHelps) {
  Config config;
  Estimate needs;
  needs.weight_bytes = needs.gradient_bytes = 1 << 20;
  const std::int64_t rank = needs.total_bytes();
  EXPECT_EQ(why_too_large(needs, config, {}, rank), "");
  EXPECT_THAT(why_too_large(needs, config, {}, rank - 1),
              HasSubstr("this run needs about 2 MiB, and this machine"));
  EXPECT_EQ(why_too_large(needs, config, {8, 4}, 4 * rank), "");
  EXPECT_EQ(why_too_large(needs, config, {8, 4, 3 * rank}, 3 * rank), "");
  EXPECT_NE(why_too_large(needs, config, {8, 4, 3 * rank}, 3 * rank - 1), "");
  EXPECT_THAT(
      why_too_large(needs, config, {8, 4}, 4 * rank - 1),
      AllOf(HasSubstr("each of 4 ranks on one machine needs about 2 MiB, 8 MiB "
                      "together, and this machine"),
            HasSubstr("parallel.row_budget"), HasSubstr("fewer ranks")));
  EXPECT_THAT(
      why_too_large(needs, config, {8, 1}, rank - 1),
      AllOf(HasSubstr("a rank needs about"), Not(HasSubstr("fewer ranks"))));
}

ModelConfig model_of(std::int64_t experts, std::int64_t k,
                     std::int64_t iterations, std::int64_t groups = 1,
                     std::int64_t top_groups = 1) {
  ModelConfig config;
  config.chain.routed_experts = experts;
  config.chain.top_k = k;
  config.chain.iterations = iterations;
  config.router.groups = groups;
  config.router.top_groups = top_groups;
  return config;
}

TEST(CombinationsTest, AreExact) {
  EXPECT_EQ(expert_combinations(model_of(63, 4, 1)), "595665");
  EXPECT_EQ(expert_combinations(model_of(63, 4, 2)), "354816792225");
  EXPECT_EQ(expert_combinations(model_of(63, 8, 1)), "3872894697");
  EXPECT_EQ(expert_combinations(model_of(4, 4, 3)), "1");
  // C(256, 128), of 76 digits.
  EXPECT_EQ(expert_combinations(model_of(256, 128, 1)),
            "57686588234492063380897483578622868877402117019751620326084"
            "36567264518750790");
}

// Counted one by one.
TEST(CombinationsTest, GroupsLimitTheSets) {
  for (const auto& [experts, k, groups, top] :
       {std::tuple(8, 3, 4, 2), {6, 2, 3, 1}, {9, 4, 3, 2}, {8, 4, 2, 2}}) {
    std::int64_t count = 0;
    for (unsigned set = 0; set < 1U << experts; ++set) {
      if (__builtin_popcount(set) != k) continue;
      unsigned touched = 0;
      for (int e = 0; e < experts; ++e) {
        if ((set >> e & 1) != 0) touched |= 1U << (e / (experts / groups));
      }
      count += __builtin_popcount(touched) <= top;
    }
    EXPECT_EQ(expert_combinations(model_of(experts, k, 2, groups, top)),
              std::to_string(count * count))
        << experts << " " << k << " " << groups << " " << top;
  }
}

TEST(KernelTableTest, ForetellsByCostAndSurvivesItsFile) {
  KernelTable table;
  table.layout = "here";
  table.kernels["gemm"] = {{.flops = 1e9, .read_bytes = 1, .write_bytes = 1},
                           2};
  table.kernels["add"] = {{.flops = 7, .read_bytes = 6, .write_bytes = 4}, 1};
  table.step_seconds = 4;  // a second outside of kernels
  // 1 s of gemm and 3 s of add, and a third more for all else.
  const std::map<std::string, Cost> step{
      {"gemm", {.flops = 5e8, .read_bytes = 1e9, .write_bytes = 0}},
      {"add", {.flops = 0, .read_bytes = 20, .write_bytes = 10}}};
  EXPECT_DOUBLE_EQ(table.foretell(step).value(), 4 * 4.0 / 3);
  auto unknown = step;
  unknown["rope"] = {.flops = 1, .read_bytes = 1, .write_bytes = 1};
  EXPECT_FALSE(table.foretell(unknown).has_value());

  const fs::path folder =
      fs::path(testing::TempDir()) / fmt::format("kernel-table-{}", ::getpid());
  const fs::path path = kernel_table_path(folder, DType::kFloat32);
  EXPECT_FALSE(load_kernel_table(path).has_value());
  save(table, path);
  const auto read = load_kernel_table(path);
  ASSERT_TRUE(read.has_value());
  EXPECT_EQ(read->layout, "here");
  EXPECT_EQ(read->foretell(step), table.foretell(step));
  write_file_atomically(path, "{\"version\": 1");
  EXPECT_FALSE(load_kernel_table(path).has_value());
  fs::remove_all(folder);
}

// What one whole step on meta costs is what its parts cost.
TEST(PlanTest, CostsGrowWithTheBatch) {
  Config config = load_config("quickstart.toml");
  const Plan one = make_plan(config, {});
  config.train.batch_tokens *= 2;
  const Plan two = make_plan(config, {});
  EXPECT_DOUBLE_EQ(two.needs.flops_per_token, one.needs.flops_per_token);
  EXPECT_DOUBLE_EQ(two.needs.kernels.at("gemm").flops,
                   2 * one.needs.kernels.at("gemm").flops);
  EXPECT_DOUBLE_EQ(two.needs.kernels.at("adamw").flops,
                   one.needs.kernels.at("adamw").flops);
}

}  // namespace
}  // namespace catena
