#include "training/forecast.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <filesystem>

#include "runtime/base/files.h"
#include "tests/support/json.h"
#include "training/routing_plan.h"

namespace catena {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

class ForecastTest : public testing::Test {
 protected:
  ForecastTest() {
    config_.model.hidden = 64;
    config_.model.layers = 2;
    config_.model.vocabulary = 256;
    config_.model.max_positions = 32;
    config_.model.attention = {
        .kind = "gqa", .heads = 4, .kv_heads = 4, .head_size = 16};
    config_.model.chain = {
        .iterations = 2, .routed_experts = 8, .top_k = 2, .intermediate = 32};
    config_.data.sequence = 32;
    config_.train.batch_tokens = 32 * 64;
    config_.train.micro_batch_tokens = 32 * 4;
    cluster_ = {.name = "made up",
                .ranks_per_node = 2,
                .peak_flops = 2e9,
                .kernels = Roofline{.gemm_flops = 1e9,
                                    .grouped_gemm_flops = 1e9,
                                    .attention_flops = 1e9,
                                    .memory_bytes_per_second = 1e9,
                                    .launch_seconds = 1e-6},
                .inside = {.bytes_per_second = 1e15},
                .across = {.bytes_per_second = 1e15}};
  }
  [[nodiscard]] Forecast forecast(int ranks) const {
    return catena::forecast(config_, {DType::kFloat32}, ranks, cluster_);
  }
  void slow_down(double bytes_per_second) {
    cluster_.inside.bytes_per_second = bytes_per_second;
    cluster_.across.bytes_per_second = bytes_per_second;
  }

  Config config_;
  Cluster cluster_;
};

TEST_F(ForecastTest, OneRankTakesWhatItsKernelsTake) {
  const Forecast alone = forecast(1);
  EXPECT_GT(alone.kernel_seconds, 0);
  EXPECT_NEAR(alone.step_seconds, alone.kernel_seconds, 1e-9);
  EXPECT_EQ(alone.traffic.total().sent_bytes, 0);
  EXPECT_LT(alone.mfu(), 0.5);  // products reach half of the peak
  EXPECT_GT(alone.mfu(), 0.1);
}

TEST_F(ForecastTest, SendsTheBytesOfThePlan) {
  for (const int ranks : {2, 4, 7, 8}) {
    const Forecast found = forecast(ranks);
    const Estimate plan =
        estimate(config_, {DType::kFloat32}, config_.mesh(ranks));
    for (const Phase phase : {Phase::kGradients, Phase::kParameters}) {
      // The plan leaves out the sum of squares.
      EXPECT_NEAR(static_cast<double>(found.traffic[phase].sent_bytes),
                  plan.exchange_bytes.at(std::string(name(phase))),
                  8.0 * ranks);
    }
    if (64 % ranks == 0) {
      EXPECT_NEAR(
          static_cast<double>(found.traffic[Phase::kDispatch].sent_bytes),
          plan.exchange_bytes.at("dispatch"),
          0.02 * plan.exchange_bytes.at("dispatch"));
    }
  }
}

TEST_F(ForecastTest, AFastWireCostsNothingAndASlowOneAllItTakes) {
  const Forecast fast = forecast(4);
  EXPECT_NEAR(fast.step_seconds, fast.kernel_seconds,
              1e-3 * fast.kernel_seconds);
  slow_down(1e4);
  cluster_.ranks_per_node = 1;
  const Forecast slow = forecast(4);
  EXPECT_NEAR(slow.kernel_seconds, fast.kernel_seconds,
              1e-9 * fast.kernel_seconds);
  const PhaseTraffic total = slow.traffic.total();
  EXPECT_NEAR(slow.step_seconds, slow.kernel_seconds + total.exposed_seconds,
              1e-6 * slow.step_seconds);
  EXPECT_GE(slow.step_seconds, static_cast<double>(total.sent_bytes) / 1e4);
}

// A wire that takes about as long as the kernels do.
TEST_F(ForecastTest, TwoChunksHideWhatOneShows) {
  const Forecast fast = forecast(4);
  slow_down(static_cast<double>(fast.traffic.total().sent_bytes) /
            fast.kernel_seconds);
  const Forecast one = forecast(4);
  config_.parallel.chunks = 2;
  const Forecast two = forecast(4);
  const auto rows = [](const Forecast& f) {
    double sum = 0;
    for (const Phase phase :
         {Phase::kDispatch, Phase::kCombine, Phase::kCombineGradient,
          Phase::kDispatchGradient}) {
      sum += f.traffic[phase].exposed_seconds;
    }
    return sum;
  };
  EXPECT_LT(rows(two), 0.6 * rows(one));
  EXPECT_LT(two.step_seconds, one.step_seconds);
}

// What is left is the embedding's, whose gradient comes last.
TEST_F(ForecastTest, BackwardHidesTheSumsOfGradients) {
  config_.parallel.expert = 1;
  config_.model.layers = 6;
  config_.train.micro_batch_tokens = config_.train.batch_tokens / 4;
  const Forecast fast = forecast(4);
  slow_down(8 * static_cast<double>(fast.traffic.total().sent_bytes) /
            fast.kernel_seconds);
  const PhaseTraffic sums = forecast(4).traffic[Phase::kGradients];
  EXPECT_GT(sums.overlapped_seconds, 0.02 * fast.kernel_seconds);
  EXPECT_LT(sums.exposed_seconds, 0.5 * sums.overlapped_seconds);
}

TEST_F(ForecastTest, NoPhaseIsUnderWayForLongerThanTheStep) {
  slow_down(static_cast<double>(forecast(4).traffic.total().sent_bytes) /
            forecast(4).kernel_seconds);
  for (const int ranks : {1, 2, 3, 4, 7, 8}) {
    for (const int chunks : {1, 4}) {
      config_.parallel.chunks = chunks;
      const Forecast found = forecast(ranks);
      const double step = found.step_seconds * (1 + 1e-9);
      double hidden = 0;
      for (const PhaseTraffic& phase : found.traffic.phases) {
        EXPECT_LE(phase.exposed_seconds + phase.overlapped_seconds, step);
        hidden += phase.overlapped_seconds;
      }
      const PhaseTraffic total = found.traffic.total();
      EXPECT_LE(total.exposed_seconds + total.overlapped_seconds, step);
      EXPECT_LE(total.overlapped_seconds, hidden);
    }
  }
}

// Every rank's step under a file's routes is tested against the bytes of real
// runs (routing_plan_test); here is the one whose experts serve most.
TEST_F(ForecastTest, SendsTheBytesOfAFilesRoutes) {
  const RouteShape shape = RouteShape::of(config_.model);
  RoutedStep step;
  step.step = 3;
  for (int row = 1; row <= 64; ++row) step.row_offsets.push_back(row * 32);
  for (std::int64_t i = 0; i < step.tokens() * shape.layers * 2; ++i) {
    const auto expert = static_cast<std::int32_t>(i * i % 7 % 5);  // most low
    step.experts.push_back(expert);
    step.experts.push_back(7 - expert);
  }
  const fs::path path = fs::path(testing::TempDir()) /
                        fmt::format("forecast-{}.routes", ::getpid());
  RouteFileWriter writer(path, shape);
  writer.write(step);
  writer.finish();
  config_.train.micro_batch_tokens = 32 * 8;
  for (const int ranks : {2, 3, 4, 7, 8}) {
    for (const std::string& routing : {path.string(), std::string("worst")}) {
      SCOPED_TRACE(fmt::format("{} ranks, {}", ranks, routing));
      const Forecast found = catena::forecast(config_, {DType::kFloat32}, ranks,
                                              cluster_, routing);
      Config config = config_;
      config.parallel.ranks_per_node = ranks % 2 == 0 ? 2 : 0;
      const RoutingPlan plan =
          plan_routing(config, {DType::kFloat32}, found.mesh, routing);
      const auto& busiest = plan.ranks[plan.busiest];
      for (const auto& [phase, bytes] : busiest.exchange_bytes) {
        std::int64_t sent = 0;
        for (std::size_t i = 0; i < kPhaseCount; ++i) {
          if (name(static_cast<Phase>(i)) == phase) {
            sent = found.traffic.phases[i].sent_bytes;
          }
        }
        EXPECT_EQ(static_cast<double>(sent), bytes) << phase;
      }
      EXPECT_EQ(found.load_max_to_mean, plan.load_max_to_mean);
      EXPECT_EQ(found.batch_tokens, 64 * 32);
      if (routing == "worst") {
        const Forecast balanced = forecast(ranks);
        EXPECT_LT(balanced.load_max_to_mean, found.load_max_to_mean);
        EXPECT_LT(balanced.kernel_seconds, found.kernel_seconds);
      }
      EXPECT_THAT(forecast_text({&found, 1}, cluster_), HasSubstr(routing));
    }
  }
  fs::remove(path);
}

TEST_F(ForecastTest, ScalesStronglyAndWeakly) {
  const std::array ranks{1, 2, 8};
  const auto weak = forecast_scaling(config_, {DType::kFloat32}, ranks,
                                     Scaling::kWeak, cluster_);
  ASSERT_EQ(weak.size(), 3U);
  EXPECT_EQ(weak[2].batch_tokens, 8 * config_.train.batch_tokens);
  EXPECT_NEAR(weak[2].step_seconds, weak[0].step_seconds,
              0.1 * weak[0].step_seconds);
  const auto strong = forecast_scaling(config_, {DType::kFloat32}, ranks,
                                       Scaling::kStrong, cluster_);
  EXPECT_NEAR(8 * strong[2].step_seconds, strong[0].step_seconds,
              0.2 * strong[0].step_seconds);
  EXPECT_THAT(forecast_text(strong, cluster_), HasSubstr("modelled"));
  const auto json = json_of(forecast_json(strong, cluster_));
  EXPECT_THAT(json.at("modelled").get<std::string>(), HasSubstr("modelled"));
  EXPECT_EQ(json.at("forecasts").at(2).at("ranks"), 8);
  try {
    const std::array many{128};
    (void)forecast_scaling(config_, {DType::kFloat32}, many, Scaling::kStrong,
                           cluster_);
    FAIL() << "a rank without rows";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("fewer than 128 ranks"));
  }
}

TEST(ClusterTest, ReadsTheFilesThatComeWithCatena) {
  int files = 0;
  for (const auto& entry : fs::directory_iterator(fs::path(CATENA_SOURCE_DIR) /
                                                  "configs/clusters")) {
    const Cluster cluster = load_cluster(entry.path());
    EXPECT_GT(cluster.inside.bytes_per_second, cluster.across.bytes_per_second)
        << entry.path();
    ++files;
  }
  EXPECT_GE(files, 1);
}

TEST(ClusterTest, SaysWhatAFileLacks) {
  const fs::path path = fs::path(testing::TempDir()) / "cluster-lacks.toml";
  write_file_atomically(path, "[node]\nranks = 8\n[device]\ngemm_tflop = 1\n");
  try {
    (void)load_cluster(path);
    FAIL() << "nothing was thrown";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kConfig);
    EXPECT_THAT(error.what(), HasSubstr("device.gemm_tflops"));
    EXPECT_THAT(error.what(), HasSubstr("cluster-lacks.toml:4"));
  }
  fs::remove(path);
}

}  // namespace
}  // namespace catena
