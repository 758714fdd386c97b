// From the third step on nothing is allocated, from the batch that is cut to
// the weights that are moved, with a judgement of loss and norm between.

#include <barrier>
#include <functional>

#include "parallel/local/transport.h"
#include "tests/support/allocation_counter.h"
#include "tests/training/data/dataset_fixture.h"
#include "training/estimate.h"
#include "training/spike_guard.h"
#include "training/step.h"

namespace catena {
namespace {

struct Variant {
  const char* name;
  std::function<void(Config&)> change;
  DType dtype = DType::kFloat32;
};

class StepAllocation : public data::DatasetFolderTest {
 protected:
  static Config config() {
    Config c;
    c.model.hidden = 16;
    c.model.layers = 3;
    c.model.dense_layers = 1;
    c.model.vocabulary = 50;
    c.model.max_positions = 16;
    c.model.attention = {.heads = 2,
                         .kv_lora_rank = 8,
                         .qk_nope_size = 4,
                         .qk_rope_size = 4,
                         .v_size = 4};
    c.model.chain = {.routed_experts = 5, .top_k = 2, .intermediate = 12};
    c.model.router.z_loss = 0.01;
    c.data.sequence = 16;
    c.train.batch_tokens = 7 * 16;
    c.train.micro_batch_tokens = 3 * 16;
    c.train.steps = 30;
    c.spikes = {.action = "skip", .window = 20};
    return c;
  }
  /// Documents of 2 to 40 tokens: batches are of many sizes.
  data::Dataset documents() const {
    std::vector<std::vector<std::int32_t>> all;
    for (int i = 0; i < 60; ++i) {
      auto& document = all.emplace_back();
      for (int j = 0; j < 2 + i * 7 % 39; ++j) {
        document.push_back((i * 31 + j * 17) % 50);
      }
    }
    return made_of(all);
  }
};

class StepAllocationTest : public StepAllocation,
                           public ::testing::WithParamInterface<Variant> {};

TEST_P(StepAllocationTest, TheFirstTwoStepsTakeAll) {
  Config c = config();
  GetParam().change(c);
  const auto backend = make_cpu_backend(2);
  const Precision precision{GetParam().dtype};
  const data::Dataset dataset = documents();
  data::Sampler sampler(dataset, {.sequence = c.data.sequence});
  Model model(*backend, c.model, precision);
  model.parameters().initialize(5);
  Optimizer optimizer(model.parameters(), c.optimizer);
  Step step(model, optimizer, c);
  step.reserve(estimate(c, precision).chunks);
  SpikeGuard guard(c.spikes);
  data::Batch batch;
  StepReport report;
  std::size_t taken = 0;
  for (std::int64_t number = 1; number <= c.train.steps; ++number) {
    const std::int64_t tensors = backend->memory().allocations;
    const std::size_t before = testing::allocation_count();
    sampler.next(c.rows_per_step(), batch);
    step.compute(batch, number, report);
    const std::string why = guard.judge(report.loss, report.gradient_norm);
    step.apply(report);
    guard.accept(report.loss, report.gradient_norm);
    if (number > 2) {
      taken += testing::allocation_count() - before;
      EXPECT_EQ(backend->memory().allocations, tensors) << number;
    }
    ASSERT_TRUE(std::isfinite(report.loss));
    ASSERT_EQ(why, "");
  }
  EXPECT_EQ(taken, 0U);
  EXPECT_GT(sampler.epoch(), 1);
}

struct RanksVariant {
  const char* name;
  int ranks, expert;
  std::function<void(Config&)> change;
  DType dtype = DType::kFloat32;
};

class RanksAllocationTest : public StepAllocation,
                            public ::testing::WithParamInterface<RanksVariant> {
};

// Ranks that are threads: what any of them takes is counted. Queues grow,
// seldom and once for all, where a rank is further ahead than it was before:
// less than once a rank and step, of which each has a hundred exchanges.
TEST_P(RanksAllocationTest, TheFirstTwoStepsTakeNearlyAll) {
  const auto& [name, size, expert, change, dtype] = GetParam();
  Config c = config();
  change(c);
  const Mesh mesh = c.mesh(size, expert);
  const Precision precision{dtype};
  const data::Dataset dataset = documents();
  std::barrier together(size);
  std::size_t before = 0, after = 0;
  local::run_ranks(size, [&](Transport& transport) {
    const auto backend = make_cpu_backend(1);
    Ranks ranks(transport, *backend, mesh, c.placements(mesh),
                std::chrono::seconds(60),
                c.dispatch_rules(c.micro_rows(mesh.world)));
    data::Sampler sampler(dataset, {.sequence = c.data.sequence});
    Model model(*backend, c.model, precision, &ranks);
    model.parameters().initialize(5);
    Optimizer optimizer(model.parameters(), c.optimizer, &ranks);
    Step step(model, optimizer, c);
    step.reserve(estimate(c, precision, mesh).chunks);
    data::Batch batch;
    StepReport report;
    for (std::int64_t number = 1; number <= c.train.steps; ++number) {
      if (number == 3) {
        together.arrive_and_wait();
        if (transport.rank() == 0) before = testing::allocation_count();
        together.arrive_and_wait();
      }
      sampler.next(c.rows_per_step(), batch);
      step.compute(batch, number, report);
      step.apply(report);
    }
    together.arrive_and_wait();
    if (transport.rank() == 0) after = testing::allocation_count();
    together.arrive_and_wait();
  });
  EXPECT_GT(before, 0U);
  EXPECT_LT(after - before,
            static_cast<std::size_t>((c.train.steps - 2) * size));
}

INSTANTIATE_TEST_SUITE_P(
    Variants, RanksAllocationTest,
    ::testing::Values(
        RanksVariant{"two", 2, 2, [](Config&) {}},
        RanksVariant{"two_bfloat16", 2, 2, [](Config&) {}, DType::kBFloat16},
        RanksVariant{"two_of_all_data", 2, 1, [](Config&) {}},
        RanksVariant{"four_chunks", 4, 2,
                     [](Config& c) { c.parallel.chunks = 2; }},
        RanksVariant{"budget", 2, 2,
                     [](Config& c) { c.parallel.row_budget = 1.0; }},
        RanksVariant{"hierarchical", 4, 4,
                     [](Config& c) {
                       c.parallel.ranks_per_node = 2;
                       c.parallel.hierarchical = true;
                     }}),
    [](const auto& info) { return std::string(info.param.name); });

INSTANTIATE_TEST_SUITE_P(
    Variants, StepAllocationTest,
    ::testing::Values(
        Variant{"float32", [](Config&) {}},
        Variant{"bfloat16", [](Config&) {}, DType::kBFloat16},
        Variant{"chunks", [](Config& c) { c.parallel.chunks = 2; }},
        Variant{"recomputed", [](Config& c) { c.train.recompute = "layer"; }},
        Variant{"correction_bias",
                [](Config& c) { c.model.router.correction_bias = true; }},
        Variant{"balance_over_batch",
                [](Config& c) { c.model.router.auxiliary_scope = "batch"; }},
        Variant{"shared_gate",
                [](Config& c) {
                  c.model.chain.independent_gates = false;
                  c.model.router.correction_bias = true;
                }}),
    [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace catena
