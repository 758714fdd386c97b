// What the published Chain-of-Experts implementation computed, reproduced:
// logits, loss, every gradient, routes, and a short training run. Cases are
// the folders beside this file, and those in CATENA_REFERENCE_DIR.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <map>
#include <numeric>

#include "layers/model.h"
#include "runtime/base/files.h"
#include "runtime/safetensors.h"
#include "training/checkpoint/hugging_face.h"
#include "training/optimizer.h"

namespace catena {
namespace {

namespace fs = std::filesystem;

struct Tolerance {
  double loss, logits, gradient, training;
};
// Measured agreement is about ten times better in both types; the vectors
// themselves are float32.
constexpr Tolerance kTolerance{1e-5, 1e-4, 1e-3, 1e-3};

std::vector<fs::path> find_cases() {
  std::vector<fs::path> cases;
  const auto collect = [&](const fs::path& folder) {
    for (const auto& entry : fs::directory_iterator(folder)) {
      if (fs::exists(entry.path() / "expected.safetensors")) {
        cases.push_back(entry.path());
      }
    }
  };
  collect(fs::path(CATENA_SOURCE_DIR) / "tests" / "reference");
  if (const char* more = std::getenv("CATENA_REFERENCE_DIR")) collect(more);
  std::sort(cases.begin(), cases.end());
  return cases;
}

std::vector<double> values(const Safetensors& file, const std::string& name) {
  const auto entry = file.find(name);
  std::vector<double> result;
  const auto read = [&](auto element) {
    using T = decltype(element);
    std::vector<T> aligned(entry.data.size() / sizeof(T));
    std::memcpy(aligned.data(), entry.data.data(), entry.data.size());
    result.assign(aligned.begin(), aligned.end());
  };
  if (entry.dtype == DType::kInt64) {
    read(std::int64_t{});
  } else {
    read(float{});
  }
  return result;
}

struct Sample {
  std::vector<std::int32_t> ids, targets, positions, first;
  std::vector<std::int64_t> row_offsets;

  Sample(const std::vector<double>& flat, std::int64_t batch,
         std::int64_t length, std::size_t begin = 0) {
    for (std::int64_t row = 0; row < batch; ++row) {
      row_offsets.push_back(row * length);
      for (std::int64_t i = 0; i < length; ++i) {
        const std::size_t at =
            begin + static_cast<std::size_t>(row * length + i);
        ids.push_back(static_cast<std::int32_t>(flat[at]));
        targets.push_back(
            i + 1 < length ? static_cast<std::int32_t>(flat[at + 1]) : -1);
        positions.push_back(static_cast<std::int32_t>(i));
        first.push_back(static_cast<std::int32_t>(row * length));
      }
    }
    row_offsets.push_back(batch * length);
  }
  [[nodiscard]] Tokens tokens() const {
    return {ids, targets, positions, first, row_offsets};
  }
  [[nodiscard]] double trained() const {
    return static_cast<double>(std::count_if(targets.begin(), targets.end(),
                                             [](auto t) { return t >= 0; }));
  }
  [[nodiscard]] LossScale scale() const {
    const double rows = static_cast<double>(row_offsets.size() - 1);
    return {1 / trained(), 1 / rows, 1 / static_cast<double>(ids.size()), 1};
  }
};

class Recorder : public Observer {
 public:
  explicit Recorder(Backend& backend) : backend_(backend) {}
  void routed(const Chunk&, std::int64_t, std::int64_t,
              const Routed& routes) override {
    index_.push_back(read_values(backend_, routes.index));
    weight_.push_back(read_values(backend_, routes.weight));
  }
  std::vector<std::vector<double>> index_, weight_;

 private:
  Backend& backend_;
};

double relative_l2(const std::vector<double>& got,
                   const std::vector<double>& expected) {
  EXPECT_EQ(got.size(), expected.size());
  double difference = 0, norm = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    difference += (got[i] - expected[i]) * (got[i] - expected[i]);
    norm += expected[i] * expected[i];
  }
  if (norm == 0) return difference == 0 ? 0 : INFINITY;
  return std::sqrt(difference / norm);
}

struct Case {
  fs::path folder;
  DType dtype;
  int chunks;
};

std::vector<Case> all_cases() {
  std::vector<Case> result;
  for (const fs::path& folder : find_cases()) {
    result.push_back({folder, DType::kFloat32, 1});
    result.push_back({folder, DType::kFloat32, 2});
    result.push_back({folder, DType::kFloat64, 1});
  }
  return result;
}

class PublishedTest : public testing::TestWithParam<Case> {
 protected:
  PublishedTest()
      : backend_(make_cpu_backend(2)),
        expected_(
            Safetensors::open(GetParam().folder / "expected.safetensors")) {
    const fs::path config = GetParam().folder / "config.json";
    model_ = std::make_unique<Model>(
        *backend_, model_from_hugging_face(read_file(config), config.string()),
        Precision{GetParam().dtype});
    load_weights();
    for (int i = 0; i < GetParam().chunks; ++i) {
      chunks_.push_back(model_->make_chunk());
    }
  }

  void load_weights() {
    const Safetensors weights =
        Safetensors::open(GetParam().folder / "model.safetensors");
    std::size_t parts = 0;
    ParameterSet& set = model_->parameters();
    for (std::size_t i = 0; i < set.size(); ++i) {
      for (const NamedPart& part : set[i].spec().parts) {
        write_values(*backend_, part_of(set[i].master(), part),
                     values(weights, part.name));
        ++parts;
      }
    }
    std::size_t unread = 0;
    for (const std::string& name : weights.names()) {
      // A tied head is stored a second time under its own name.
      if (name == "lm_head.weight" && model_->config().tied_head) ++unread;
    }
    ASSERT_EQ(parts + unread, weights.names().size());
    set.refresh_copies();
  }

  [[nodiscard]] Sample input() const {
    const auto entry = expected_.find("input_ids");
    return {values(expected_, "input_ids"), entry.shape[0], entry.shape[1]};
  }

  std::unique_ptr<Backend> backend_;
  Safetensors expected_;
  std::unique_ptr<Model> model_;
  std::vector<std::unique_ptr<Chunk>> chunks_;
};

TEST_P(PublishedTest, LogitsAndRoutes) {
  const Sample sample = input();
  Recorder recorder(*backend_);
  chunks_[0]->observer = &recorder;
  const TensorView logits = model_->logits(sample.tokens(), *chunks_[0]);
  const auto got = read_values(*backend_, logits);
  const auto expected = values(expected_, "logits");
  ASSERT_EQ(got.size(), expected.size());
  for (std::size_t i = 0; i < got.size(); ++i) {
    ASSERT_NEAR(got[i], expected[i], kTolerance.logits) << "at " << i;
  }
  const auto k = static_cast<std::size_t>(model_->config().chain.top_k);
  for (std::size_t call = 0; call < recorder.index_.size(); ++call) {
    const auto expert = values(expected_, fmt::format("route.{}.expert", call));
    const auto weight = values(expected_, fmt::format("route.{}.weight", call));
    ASSERT_EQ(expert.size(), recorder.index_[call].size());
    for (std::size_t t = 0; t < expert.size(); t += k) {
      std::map<double, double> want, have;
      for (std::size_t j = t; j < t + k; ++j) {
        want[expert[j]] = weight[j];
        have[recorder.index_[call][j]] = recorder.weight_[call][j];
      }
      for (const auto& [e, w] : want) {
        ASSERT_TRUE(have.count(e)) << "call " << call << " token " << t / k;
        ASSERT_NEAR(have[e], w, 1e-5);
      }
    }
  }
  EXPECT_FALSE(expected_.contains(
      fmt::format("route.{}.expert", recorder.index_.size())));
}

TEST_P(PublishedTest, LossAndEveryGradient) {
  const Sample sample = input();
  model_->statistics().clear();
  model_->train(sample.tokens(), sample.scale(), chunks_);
  EXPECT_NEAR(model_->statistics().total_loss() / sample.trained(),
              values(expected_, "loss")[0], kTolerance.loss);
  double squares = 0;
  ParameterSet& set = model_->parameters();
  for (std::size_t i = 0; i < set.size(); ++i) {
    for (const NamedPart& part : set[i].spec().parts) {
      const auto got = read_values(*backend_, part_of(set[i].gradient(), part));
      EXPECT_LE(relative_l2(got, values(expected_, "grad." + part.name)),
                kTolerance.gradient)
          << part.name;
      squares =
          std::inner_product(got.begin(), got.end(), got.begin(), squares);
    }
  }
  const double norm = values(expected_, "grad_norm")[0];
  EXPECT_NEAR(std::sqrt(squares), norm, kTolerance.gradient * norm);
  const ModelConfig& config = model_->config();
  for (std::int64_t layer = 0, call = 0; layer < config.chain_layers();
       ++layer) {
    for (std::int64_t t = 0; t < config.chain.iterations; ++t, ++call) {
      const double want =
          values(expected_, fmt::format("route.{}.aux_loss", call))[0];
      EXPECT_NEAR(model_->statistics().summary(layer, t).auxiliary_loss, want,
                  1e-5 * want);
    }
  }
}

TEST_P(PublishedTest, ShortTrainingRun) {
  const auto entry = expected_.find("train.input_ids");
  const auto flat = values(expected_, "train.input_ids");
  const auto losses = values(expected_, "train.loss");
  const auto norms = values(expected_, "train.grad_norm");
  const auto per_step =
      static_cast<std::size_t>(entry.shape[1] * entry.shape[2]);
  Optimizer optimizer(model_->parameters(), OptimizerConfig{});
  for (std::size_t step = 0; step < losses.size(); ++step) {
    const Sample sample(flat, entry.shape[1], entry.shape[2], step * per_step);
    model_->statistics().clear();
    model_->train(sample.tokens(), sample.scale(), chunks_);
    const double norm = optimizer.gradient_norm();
    EXPECT_NEAR(model_->statistics().total_loss() / sample.trained(),
                losses[step], kTolerance.training)
        << "step " << step;
    EXPECT_NEAR(norm, norms[step], 5e-3 * norms[step]) << "step " << step;
    optimizer.update(3e-3, optimizer.clip_scale(norm),
                     static_cast<std::int64_t>(step) + 1);
  }
}

std::string case_name(const testing::TestParamInfo<Case>& info) {
  std::string result =
      fmt::format("{}_{}_chunks{}", info.param.folder.filename().string(),
                  name(info.param.dtype), info.param.chunks);
  std::replace_if(
      result.begin(), result.end(),
      [](char c) { return !std::isalnum(static_cast<unsigned char>(c)); }, '_');
  return fmt::format("{}_{}", info.index, result);
}

INSTANTIATE_TEST_SUITE_P(Cases, PublishedTest, testing::ValuesIn(all_cases()),
                         case_name);

}  // namespace
}  // namespace catena
