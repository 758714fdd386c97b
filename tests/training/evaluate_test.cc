#include "training/evaluate.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>

#include "parallel/local/transport.h"
#include "training/data/prepare.h"
#include "training/sources.h"

namespace catena {
namespace {

/// The quickstart's validation text and an untrained tiny model.
class EvaluateTest : public testing::Test {
 protected:
  EvaluateTest()
      : cache_(testing::TempDir() + fmt::format("/evaluate-{}", ::getpid())) {
    const std::string data =
        std::string(CATENA_SOURCE_DIR) + "/data/quickstart";
    config_.data.validation = {data + "/val.jsonl"};
    config_.data.tokenizer = data + "/tokenizer.json";
    config_.data.cache = cache_;
    config_.data.sequence = 64;
    config_.validation.rows = 9;
    config_.train.micro_batch_tokens = 256;
    config_.model.hidden = 16;
    config_.model.layers = 1;
    config_.model.attention = {.heads = 2,
                               .kv_lora_rank = 8,
                               .qk_nope_size = 4,
                               .qk_rope_size = 4,
                               .v_size = 4};
    config_.model.chain = {.routed_experts = 3, .top_k = 2, .intermediate = 8};
  }
  ~EvaluateTest() override { std::filesystem::remove_all(cache_); }

  std::string cache_;
  Config config_;
};

TEST_F(EvaluateTest, RowByRowIsTheWholeAndTheErrorIsThatOfARatio) {
  const auto backend = make_cpu_backend(1);
  Model model(*backend, config_.model, {DType::kFloat64});
  model.parameters().initialize(1);
  const auto tokenizer = load_tokenizer(config_);
  const data::Dataset dataset =
      open_data(config_, config_.data.validation, "data.validation");
  const data::SamplerOptions options = sampler_options(config_, tokenizer);
  Validation all(dataset, options, config_);
  const auto chunk = model.make_chunk();
  const auto whole = all.run(model, *chunk);
  const auto rows = all.run_by_rows(model, *chunk);
  EXPECT_NEAR(rows.loss, whole.loss, 1e-12);
  EXPECT_EQ(rows.rows, 9);
  EXPECT_EQ(rows.trained_tokens, whole.trained_tokens);

  // Leaving out one row at a time: the jackknife agrees to first order.
  std::vector<double> sums, counts;
  double before_sum = 0, before_count = 0;
  for (std::int64_t n = 1; n <= 9; ++n) {
    config_.validation.rows = n;
    Validation some(dataset, options, config_);
    const auto part = some.run(model, *chunk);
    const auto count = static_cast<double>(part.trained_tokens);
    sums.push_back(part.loss * count - before_sum);
    counts.push_back(count - before_count);
    before_sum = part.loss * count;
    before_count = count;
    if (n == 1) {
      EXPECT_NEAR(some.probe(model, *chunk), part.loss, 1e-12);
    }
  }
  double squares = 0;
  for (std::size_t i = 0; i < sums.size(); ++i) {
    const double left = (before_sum - sums[i]) / (before_count - counts[i]);
    squares += (left - rows.loss) * (left - rows.loss);
  }
  const double jackknife = std::sqrt(squares * 8 / 9);
  ASSERT_TRUE(rows.standard_error.has_value());
  EXPECT_GT(*rows.standard_error, 0);
  EXPECT_NEAR(*rows.standard_error, jackknife, 0.2 * jackknife);
}

TEST_F(EvaluateTest, OfOneRowTheErrorIsUnknown) {
  config_.validation.rows = 1;
  const auto backend = make_cpu_backend(1);
  Model model(*backend, config_.model, {DType::kFloat64});
  model.parameters().initialize(1);
  const auto tokenizer = load_tokenizer(config_);
  const data::Dataset dataset =
      open_data(config_, config_.data.validation, "data.validation");
  Validation one(dataset, sampler_options(config_, tokenizer), config_);
  const auto chunk = model.make_chunk();
  const auto found = one.run_by_rows(model, *chunk);
  EXPECT_GT(found.loss, 0);
  EXPECT_EQ(found.rows, 1);
  EXPECT_FALSE(found.standard_error.has_value());
}

// Nine rows, 4 at once on one rank: with every number of ranks some are left
// over.
TEST_F(EvaluateTest, RanksLeaveNoRowOut) {
  const auto tokenizer = load_tokenizer(config_);
  const data::Dataset dataset =
      open_data(config_, config_.data.validation, "data.validation");
  const data::SamplerOptions options = sampler_options(config_, tokenizer);
  struct Losses {
    double whole, by_rows, probe;
  };
  const auto losses = [&](Backend& backend, Ranks* ranks) {
    Model model(backend, config_.model, {DType::kFloat64}, ranks);
    model.parameters().initialize(1);
    Validation all(dataset, options, config_);
    const auto chunk = model.make_chunk();
    return Losses{all.run(model, *chunk).loss,
                  all.run_by_rows(model, *chunk).loss,
                  all.probe(model, *chunk)};
  };
  const auto alone = make_cpu_backend(1);
  const Losses expected = losses(*alone, nullptr);
  for (const auto& layout : {std::pair{2, 2}, {3, 1}, {4, 2}}) {
    const int world = layout.first, expert = layout.second;
    SCOPED_TRACE(testing::Message() << world << " ranks");
    local::run_ranks(world, [&](Transport& transport) {
      const auto backend = make_cpu_backend(1);
      Ranks ranks(transport, *backend, make_mesh(world, expert, 3),
                  Placement::contiguous(3, expert), Communicator::Deadline(60));
      const Losses found = losses(*backend, &ranks);
      EXPECT_NEAR(found.whole, expected.whole, 1e-12);
      EXPECT_NEAR(found.by_rows, expected.by_rows, 1e-12);
      EXPECT_NEAR(found.probe, expected.probe, 1e-12);
    });
  }
}

}  // namespace
}  // namespace catena
