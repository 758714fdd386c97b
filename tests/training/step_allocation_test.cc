// From the third step on nothing is allocated, from the batch that is cut to
// the weights that are moved, with a judgement of loss and norm between.

#include <functional>

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

class StepAllocationTest : public data::DatasetFolderTest,
                           public ::testing::WithParamInterface<Variant> {
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
