#include "training/step.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "runtime/base/random.h"

namespace catena {
namespace {

using testing::HasSubstr;

/// `rows` rows of 4 to 9 tokens, one document each.
data::Batch make_batch(std::int64_t rows, std::int32_t vocabulary) {
  const Random random(3, 1);
  data::Batch batch;
  batch.rows = rows;
  batch.row_offsets.push_back(0);
  for (std::int64_t row = 0; row < rows; ++row) {
    const auto begin = static_cast<std::int32_t>(batch.tokens.size());
    const std::int32_t length = 4 + static_cast<std::int32_t>(row % 6);
    for (std::int32_t i = 0; i < length; ++i) {
      const auto draw = random.words(batch.tokens.size());
      const auto size = static_cast<std::uint32_t>(vocabulary);
      batch.tokens.push_back(static_cast<std::int32_t>(draw[0] % size));
      batch.targets.push_back(
          i == 0 ? -1 : static_cast<std::int32_t>(draw[1] % size));
      batch.positions.push_back(i);
      batch.first.push_back(begin);
      batch.trained_tokens += i > 0;
    }
    batch.row_offsets.push_back(static_cast<std::int64_t>(batch.tokens.size()));
  }
  batch.sequence = 16;
  batch.padding_tokens =
      rows * batch.sequence - static_cast<std::int64_t>(batch.tokens.size());
  return batch;
}

class StepTest : public testing::Test {
 protected:
  StepTest() : backend_(make_cpu_backend(2)) {
    config_.model.hidden = 16;
    config_.model.layers = 2;
    config_.model.vocabulary = 50;
    config_.model.max_positions = 16;
    config_.model.attention = {.heads = 2,
                               .kv_lora_rank = 8,
                               .qk_nope_size = 4,
                               .qk_rope_size = 4,
                               .v_size = 4};
    config_.model.chain = {.routed_experts = 5, .top_k = 2, .intermediate = 12};
    config_.model.router.z_loss = 0.01;
    config_.data.sequence = 16;
    config_.train.steps = 3;
  }

  struct Outcome {
    StepReport report;
    std::vector<double> weights;
  };
  Outcome train(std::int64_t micro_rows, std::int64_t chunks,
                const char* scope) {
    config_.train.micro_batch_tokens = micro_rows * config_.data.sequence;
    config_.chunks = chunks;
    config_.model.router.auxiliary_scope = scope;
    Model model(*backend_, config_.model, {DType::kFloat64});
    model.parameters().initialize(5);
    Optimizer optimizer(model.parameters(), config_.optimizer);
    Step step(model, optimizer, config_);
    Outcome outcome;
    for (std::int64_t number = 1; number <= 3; ++number) {
      step.compute(make_batch(7, 50), number, outcome.report);
      step.apply(outcome.report);
    }
    for (std::size_t i = 0; i < model.parameters().size(); ++i) {
      const auto values =
          read_values(*backend_, model.parameters()[i].master());
      outcome.weights.insert(outcome.weights.end(), values.begin(),
                             values.end());
    }
    return outcome;
  }

  Config config_;
  std::unique_ptr<Backend> backend_;
};

TEST_F(StepTest, MicroBatchesAndChunksLeaveNoTrace) {
  const Outcome whole = train(7, 1, "sequence");
  for (const auto& [micro, chunks] :
       std::vector<std::pair<std::int64_t, std::int64_t>>{
           {1, 1}, {3, 1}, {7, 2}, {2, 3}, {7, 9}}) {
    const Outcome split = train(micro, chunks, "sequence");
    EXPECT_NEAR(split.report.loss, whole.report.loss, 1e-12);
    EXPECT_NEAR(split.report.gradient_norm, whole.report.gradient_norm, 1e-10);
    ASSERT_EQ(split.weights.size(), whole.weights.size());
    for (std::size_t i = 0; i < whole.weights.size(); ++i) {
      ASSERT_NEAR(split.weights[i], whole.weights[i], 1e-9);
    }
  }
}

TEST_F(StepTest, ChunksLeaveNoTraceInTheBalanceOverABatch) {
  const Outcome whole = train(7, 1, "batch");
  const Outcome split = train(7, 3, "batch");
  EXPECT_NEAR(split.report.gradient_norm, whole.report.gradient_norm, 1e-10);
  EXPECT_NEAR(split.report.routes[1][1].auxiliary_loss,
              whole.report.routes[1][1].auxiliary_loss, 1e-12);
}

TEST_F(StepTest, CountsEveryChoice) {
  const Outcome outcome = train(3, 2, "sequence");
  ASSERT_EQ(outcome.report.routes.size(), 2U);
  for (const auto& layer : outcome.report.routes) {
    for (const RouteSummary& summary : layer) {
      EXPECT_EQ(summary.tokens, static_cast<double>(outcome.report.tokens));
    }
  }
}

TEST_F(StepTest, NamesTheFirstTensorThatIsNotFinite) {
  Model model(*backend_, config_.model, {});
  model.parameters().initialize(5);
  Optimizer optimizer(model.parameters(), config_.optimizer);
  Step step(model, optimizer, config_);
  const auto fill = [&](const char* name, double value) {
    const Parameter& p = *model.parameters().find(name).parameter;
    write_values(
        *backend_, p.master(),
        std::vector<double>(static_cast<std::size_t>(p.elements()), value));
  };
  // Finite, but its product is not: the weight itself must not be blamed.
  fill("model.layers.1.self_attn.kv_a_layernorm.weight", 1e6);
  fill("model.layers.1.self_attn.o_proj.weight", 3e38);
  const auto before = model.parameters().find("model.norm.weight");
  StepReport report;
  try {
    step.compute(make_batch(7, 50), 4, report);
    EXPECT_FALSE(std::isfinite(report.loss));
    step.diagnose(make_batch(7, 50), 4);
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kNonFinite);
    EXPECT_THAT(error.what(), HasSubstr("step 4: not finite. It began in "
                                        "model.layers.1.self_attn.output"));
    EXPECT_THAT(error.what(), HasSubstr("learning_rate.peak"));
  }
  for (const double value :
       read_values(*backend_, before.parameter->master())) {
    EXPECT_EQ(value, 1);
  }
}

}  // namespace
}  // namespace catena
