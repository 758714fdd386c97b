#include "training/verify.h"

#include <gmock/gmock.h>
#include <unistd.h>

#include <cmath>
#include <limits>

#include "runtime/base/error.h"
#include "runtime/base/files.h"
#include "runtime/base/random.h"
#include "training/route_file.h"

namespace catena {
namespace {

using testing::HasSubstr;

Config small_config() {
  Config config;
  config.model.hidden = 16;
  config.model.layers = 2;
  config.model.vocabulary = 50;
  config.model.max_positions = 16;
  config.model.attention = {.heads = 2,
                            .kv_lora_rank = 8,
                            .qk_nope_size = 4,
                            .qk_rope_size = 4,
                            .v_size = 4};
  config.model.chain = {.routed_experts = 6, .top_k = 2, .intermediate = 12};
  config.data.sequence = 16;
  config.train.micro_batch_tokens = 64;
  config.train.batch_tokens = 128;
  return config;
}

std::vector<data::Batch> batches(std::int64_t count) {
  std::vector<data::Batch> result(static_cast<std::size_t>(count));
  const Random random(3, 1);
  std::uint64_t drawn = 0;
  for (data::Batch& batch : result) {
    batch.rows = 8;
    batch.sequence = 16;
    batch.row_offsets.push_back(0);
    for (std::int32_t row = 0; row < 8; ++row) {
      for (std::int32_t i = 0; i < 16; ++i) {
        const auto words = random.words(drawn++);
        batch.tokens.push_back(static_cast<std::int32_t>(words[0] % 50));
        batch.targets.push_back(static_cast<std::int32_t>(words[1] % 50));
        batch.positions.push_back(i);
        batch.first.push_back(row * 16);
        ++batch.trained_tokens;
      }
      batch.row_offsets.push_back(
          static_cast<std::int64_t>(batch.tokens.size()));
    }
  }
  return result;
}

TEST(VerifyTest, EveryLayoutPassesInEveryType) {
  std::vector<VerifyRow> rows;
  EXPECT_TRUE(verify_layouts(
      small_config(), {{1, 1}, {1, 2}, {2, 1}, {2, 3}}, batches(3), {},
      [&](const VerifyRow& row) { rows.push_back(row); }));
  ASSERT_EQ(rows.size(), 12U);
  for (const VerifyRow& row : rows) {
    EXPECT_TRUE(row.passed()) << row.layout << " " << row.mode;
    // The tolerances are not idle: rounding comes within their reach.
    if (row.mode.starts_with("float32")) {
      EXPECT_GT(row.found.gradient, 1e-9);
    }
  }
}

// Also where rows are computed one at a time, so that chunks have none to part.
TEST(VerifyTest, TheNullExperimentHasItsSumsInAnotherOrder) {
  for (const std::int64_t rows : {1, 3}) {
    SCOPED_TRACE(rows);
    Config config = small_config();
    config.train.micro_batch_tokens = rows * config.data.sequence;
    int nulls = 0;
    verify_layouts(config, {{1, 1}}, batches(1), {}, [&](const VerifyRow& row) {
      if (!row.null) return;
      ++nulls;
      EXPECT_GT(row.found.gradient, 0) << row.mode;
    });
    EXPECT_EQ(nulls, 3);
  }
}

TEST(VerifyTest, ReplicasOfExpertsPassToo) {
  Config config = small_config();
  const std::filesystem::path path =
      std::filesystem::path(testing::TempDir()) /
      fmt::format("placement-{}.toml", ::getpid());
  write_file_atomically(path, R"(
ranks = 3
experts = [[0, 1, 2], 0, [0, 2], 1, [1, 2], 2]
[[layer]]
number = 1
experts = [1, [0, 1], 0, 2, [0, 1, 2], 2]
)");
  config.parallel.placement_file = path.string();
  EXPECT_TRUE(verify_layouts(config, {{1, 1}, {1, 3}, {2, 3}}, batches(3), {},
                             [&](const VerifyRow& row) {
                               EXPECT_TRUE(row.passed())
                                   << row.layout << " " << row.mode;
                             }));
  std::filesystem::remove(path);
}

TEST(VerifyTest, ReplayedRoutesAreTheSameRoutes) {
  const Config config = small_config();
  LayoutRun reference =
      run_layout(config, {DType::kFloat32}, {1, 1}, batches(2), nullptr);
  // Another seed chooses other experts, but when it is told.
  Config other = config;
  other.train.seed = 77;
  const LayoutRun free =
      run_layout(other, {DType::kFloat32}, {1, 1}, batches(2), nullptr);
  EXPECT_GT(reference.routes.flips(free.routes).count, 0);
  EXPECT_GT(reference.routes.flips(free.routes).largest_margin, 0);
  for (const Layout& layout : {Layout{1, 1}, Layout{2, 2, 2}}) {
    const LayoutRun replayed = run_layout(other, {DType::kFloat32}, layout,
                                          batches(2), &reference.routes);
    EXPECT_EQ(reference.routes.flips(replayed.routes).count, 0);
  }
}

TEST(VerifyTest, AFileOfRoutesIsWrittenAndFollowedByEveryLayout) {
  const std::filesystem::path path = std::filesystem::path(testing::TempDir()) /
                                     fmt::format("routes-{}.bin", ::getpid());
  Config config = small_config();
  std::vector<VerifyRow> rows;
  const auto keep = [&](const VerifyRow& row) { rows.push_back(row); };
  EXPECT_TRUE(verify_layouts(config, {{1, 1}, {2, 3}}, batches(2),
                             {.record = path, .replay = {}}, keep));
  EXPECT_EQ(rows.size(), 6U);
  LayoutRun chosen =
      run_layout(config, {DType::kFloat32}, {1, 1}, batches(2), nullptr);
  const RouteFile file(path);
  EXPECT_EQ(file.steps(), (std::vector<std::int64_t>{1, 2}));
  RoutedStep step;
  for (const std::int64_t s : {0, 1}) {
    file.read(s + 1, step);
    const auto experts = chosen.routes.of_step(s);
    EXPECT_EQ(step.experts, std::vector(experts.begin(), experts.end()));
  }

  // Weights of another seed, which would choose others.
  config.train.seed = 77;
  rows.clear();
  EXPECT_TRUE(verify_layouts(config, {{1, 1}, {1, 2}, {2, 3}}, batches(2),
                             {.record = {}, .replay = path}, keep));
  ASSERT_EQ(rows.size(), 6U);
  for (const VerifyRow& row : rows) {
    EXPECT_THAT(row.mode, HasSubstr("a file's routes"));
    EXPECT_EQ(row.found.flips.count, 0) << row.layout << " " << row.mode;
  }
  const auto refused = [&](const std::vector<data::Batch>& steps,
                           const char* words) {
    try {
      verify_layouts(config, {{1, 1}, {1, 2}}, steps,
                     {.record = {}, .replay = path}, keep);
      ADD_FAILURE() << "not refused: " << words;
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), HasSubstr(words));
    }
  };
  refused(batches(3), "step 3");
  auto other = batches(2);
  other[1].tokens[5] ^= 1;
  refused(other, "step 2 is of other tokens");
  config.model.router.force_balanced = true;
  refused(batches(2), "force_balanced deals the experts out");
  std::filesystem::remove(path);
}

// What a comparison must notice, planted into what it compares.
class DeviationTest : public testing::Test {
 protected:
  DeviationTest()
      : run_(run_layout(small_config(), {DType::kFloat64}, {1, 1}, batches(2),
                        nullptr)) {}

  [[nodiscard]] bool passes(const LayoutRun& changed,
                            double allowed = 1e-9) const {
    VerifyRow row{
        "", "", deviation(changed, run_), {allowed, allowed, allowed, allowed}};
    return row.passed();
  }

  LayoutRun run_;
};

TEST_F(DeviationTest, NoticesWhatDiffers) {
  EXPECT_TRUE(passes(run_));
  LayoutRun changed = run_;
  changed.losses[1] *= 1 + 1e-8;
  EXPECT_FALSE(passes(changed));
  changed = run_;
  changed.norms[0] *= 1 + 1e-8;
  EXPECT_FALSE(passes(changed));
  const std::string name = "model.layers.1.mlp.experts.3.up_proj.weight";
  changed = run_;
  for (double& value : changed.gradients.at(name)) value *= 2;
  EXPECT_FALSE(passes(changed));
  EXPECT_EQ(deviation(changed, run_).worst_gradient, name);
  changed = run_;
  changed.weights.at(name)[5] += 1e-6;
  EXPECT_FALSE(passes(changed));
  EXPECT_EQ(deviation(changed, run_).worst_weights, name);
}

TEST_F(DeviationTest, NoticesWhatIsMissingOrNoNumber) {
  // Where routes are each layout's own, weights may be anything that is there.
  constexpr double kAny = std::numeric_limits<double>::infinity();
  const std::string name = "model.layers.0.mlp.experts.0.gate_proj.weight";
  for (const double allowed : {1e-9, kAny}) {
    SCOPED_TRACE(allowed);
    LayoutRun changed = run_;
    changed.gradients.erase(name);
    EXPECT_FALSE(passes(changed, allowed));
    changed = run_;
    changed.weights["model.layers.9.extra"] = {1};
    EXPECT_FALSE(passes(changed, allowed));
    for (const auto member : {&LayoutRun::gradients, &LayoutRun::weights}) {
      changed = run_;
      (changed.*member).at(name)[0] = std::nan("");
      EXPECT_FALSE(passes(changed, allowed));
    }
    for (const auto member : {&LayoutRun::losses, &LayoutRun::norms}) {
      changed = run_;
      (changed.*member)[0] = std::nan("");
      EXPECT_FALSE(passes(changed, allowed));
    }
  }
}

TEST(LayoutTest, IsDataTimesExpert) {
  EXPECT_EQ(parse_layout("2x4").data, 2);
  EXPECT_EQ(parse_layout("2x4").expert, 4);
  EXPECT_EQ(parse_layout("12x1").name(), "12x1");
  for (const char* bad : {"", "x", "2", "0x1", "2x", "x2", "2x0", "-1x2",
                          "2x2x2", "2 x 2", "99999x1"}) {
    try {
      static_cast<void>(parse_layout(bad));
      FAIL() << bad;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kUsage);
      EXPECT_THAT(error.what(), HasSubstr("is no layout"));
    }
  }
}

}  // namespace
}  // namespace catena
