// Checkpoints of several ranks, as threads: every tensor of the model is there
// once with its values, and a run goes on from it with the same bits.

#include <cstring>
#include <map>
#include <mutex>

#include "parallel/local/transport.h"
#include "runtime/base/random.h"
#include "tests/training/checkpoint_fixture.h"
#include "training/step.h"

namespace catena {
namespace {

using Values = std::map<std::string, std::vector<double>>;

struct Case {
  int world, expert;
  DType dtype;
  bool replicas = false;  ///< inside a group too
};

/// The last rank of a group is of no expert the first.
Placement placement_of(const Case& layout, std::int64_t experts) {
  if (!layout.replicas) return Placement::contiguous(experts, layout.expert);
  std::vector<std::vector<int>> holders;
  for (int e = 0; e < experts; ++e) {
    holders.push_back(e % 2 == 0 || layout.expert == 2
                          ? std::vector<int>{0}
                          : std::vector<int>{e % layout.expert});
    if (e % 2 == 0 && e > 0) holders.back().push_back(1);
    if (e == 4 && layout.expert > 2) holders.back().push_back(2);
  }
  return {std::move(holders), layout.expert};
}

/// Four rows of 5 tokens.
data::Batch make_batch(std::uint64_t number) {
  const Random random(3, number);
  data::Batch batch;
  batch.rows = 4;
  batch.sequence = 5;
  batch.row_offsets.push_back(0);
  for (std::int32_t row = 0; row < batch.rows; ++row) {
    for (std::int32_t i = 0; i < batch.sequence; ++i) {
      const auto draw = random.words(batch.tokens.size());
      batch.tokens.push_back(static_cast<std::int32_t>(draw[0] % 40));
      batch.targets.push_back(static_cast<std::int32_t>(draw[1] % 40));
      batch.positions.push_back(i);
      batch.first.push_back(row * 5);
      ++batch.trained_tokens;
    }
    batch.row_offsets.push_back(static_cast<std::int64_t>(batch.tokens.size()));
  }
  return batch;
}

/// One rank of a run, or all of it.
class Training {
 public:
  Training(Backend& backend, const Config& config, DType dtype, Ranks* ranks,
           std::uint64_t seed)
      : model_(backend, config.model, {dtype}, ranks),
        optimizer_(model_.parameters(), config.optimizer, ranks),
        step_(model_, optimizer_, config) {
    model_.parameters().initialize(seed);
  }

  void train(std::int64_t first, std::int64_t last) {
    for (std::int64_t number = first; number <= last; ++number) {
      step_.compute(make_batch(static_cast<std::uint64_t>(number)), number,
                    report_);
      step_.apply(report_);
    }
  }
  void save(const fs::path& checkpoints, std::int64_t step) {
    CheckpointWriter writer(checkpoints, {}, model_, optimizer_);
    TrainingState state;
    state.step = step;
    writer.begin(state);
    EXPECT_EQ(writer.wait()->error, "");
    if (model_.ranks() != nullptr) wait(model_.ranks()->world().barrier({}));
  }
  void resume(const fs::path& folder) { restore(folder, model_, optimizer_); }

  /// All ranks call it.
  [[nodiscard]] Values weights() {
    Values result;
    optimizer_.gather_masters();
    for (const StoredTensor& tensor : model_tensors(model_)) {
      result[tensor.name] = read_values(model_.backend(), tensor.view);
    }
    return result;
  }
  /// Weights, moments in the runs that this rank owns, rounded copies.
  [[nodiscard]] Values values() {
    Backend& backend = model_.backend();
    Values result = weights();
    for (const StoredTensor& tensor :
         optimizer_tensors(model_.parameters(), optimizer_)) {
      result[fmt::format("{} from {}", tensor.name, tensor.begin)] =
          read_values(backend, tensor.view);
    }
    for (std::size_t i = 0; i < model_.parameters().size(); ++i) {
      const Parameter& parameter = model_.parameters()[i];
      result[parameter.name() + ", rounded"] =
          read_values(backend, parameter.weight());
    }
    return result;
  }

 private:
  Model model_;
  Optimizer optimizer_;
  Step step_;
  StepReport report_;
};

class CheckpointRanksTest : public testing::TestWithParam<Case> {
 protected:
  CheckpointRanksTest()
      : folder_(fs::path(testing::TempDir()) /
                fmt::format("checkpoint-ranks-{}", ::getpid())) {
    config_.model.hidden = 16;
    config_.model.layers = 2;
    config_.model.vocabulary = 40;
    config_.model.max_positions = 16;
    config_.model.attention = {.heads = 2,
                               .kv_lora_rank = 8,
                               .qk_nope_size = 4,
                               .qk_rope_size = 4,
                               .v_size = 4};
    config_.model.chain = {.routed_experts = 5, .top_k = 2, .intermediate = 8};
    config_.model.router.correction_bias = true;
    config_.data.sequence = 5;
    config_.train.steps = 4;
  }
  ~CheckpointRanksTest() override { fs::remove_all(folder_); }

  /// work(run) for every rank, of weights drawn from `seed`.
  template <class Work>
  void run(const Case& layout, std::uint64_t seed, const Work& work) const {
    const std::int64_t experts = config_.model.chain.routed_experts;
    if (layout.world == 1) {
      const auto backend = make_cpu_backend(1);
      Training whole(*backend, config_, layout.dtype, nullptr, seed);
      return work(0, whole);
    }
    local::run_ranks(layout.world, [&](Transport& transport) {
      const auto backend = make_cpu_backend(1);
      Ranks ranks(transport, *backend,
                  make_mesh(layout.world, layout.expert, experts),
                  placement_of(layout, experts), Communicator::Deadline(60));
      Training part(*backend, config_, layout.dtype, &ranks, seed);
      work(transport.rank(), part);
    });
  }

  /// Every tensor of the files, by name.
  [[nodiscard]] static Values read(const fs::path& folder) {
    Values result;
    for (const char* prefix : {"model", "optimizer"}) {
      for (const fs::path& path : tensor_files(folder, prefix)) {
        const Safetensors file = Safetensors::open(path);
        for (const std::string& name : file.names()) {
          const auto entry = file.find(name);
          std::vector<double> values;
          const auto add = [&](auto element) {
            for (std::size_t at = 0; at < entry.data.size();
                 at += sizeof element) {
              std::memcpy(&element, entry.data.data() + at, sizeof element);
              values.push_back(element);
            }
          };
          entry.dtype == DType::kFloat64 ? add(double{}) : add(float{});
          EXPECT_TRUE(result.emplace(name, values).second) << name << " twice";
        }
      }
    }
    return result;
  }

  /// Each of `expected` is in `found`, within `tolerance`.
  static void expect_same(const Values& found, const Values& expected,
                          double tolerance) {
    for (const auto& [name, values] : expected) {
      ASSERT_TRUE(found.contains(name)) << name;
      const auto& others = found.at(name);
      ASSERT_EQ(others.size(), values.size()) << name;
      for (std::size_t i = 0; i < values.size(); ++i) {
        ASSERT_NEAR(others[i], values[i], tolerance)
            << name << ", element " << i;
      }
    }
  }

  fs::path folder_;
  Config config_;
};

TEST_P(CheckpointRanksTest, HoldsEveryTensorOfTheModelOnce) {
  const Case& layout = GetParam();
  Values expected, held;
  run({1, 1, layout.dtype}, 5, [&](int, Training& whole) {
    whole.train(1, 2);
    whole.save(folder_ / "one", 2);
    expected = read(folder_ / "one" / checkpoint_name(2));
  });
  std::mutex mutex;
  run(layout, 5, [&](int, Training& part) {
    part.train(1, 2);
    part.save(folder_, 2);
    Values mine = part.weights();
    const std::lock_guard lock(mutex);
    held.merge(mine);
  });
  const fs::path saved = folder_ / checkpoint_name(2);
  const Values found = read(saved);
  EXPECT_EQ(found.size(), expected.size());
  const bool rounded = layout.dtype != DType::kFloat64;
  expect_same(found, expected, rounded ? 1 : 1e-9);
  expect_same(found, held, 0);
  const std::string index = read_file(saved / kIndexFile);
  for (const auto& [name, values] : held) {
    EXPECT_THAT(index, testing::HasSubstr('"' + name + "\": \"model-"));
  }
}

TEST_P(CheckpointRanksTest, GoesOnAsIfItHadNotStopped) {
  const Case& layout = GetParam();
  std::vector<Values> saved(static_cast<std::size_t>(layout.world)),
      ended(saved);
  run(layout, 5, [&](int rank, Training& part) {
    part.train(1, 2);
    part.save(folder_, 2);
    saved[static_cast<std::size_t>(rank)] = part.values();
    part.train(3, 4);
    ended[static_cast<std::size_t>(rank)] = part.values();
  });
  run(layout, 6, [&](int rank, Training& part) {
    part.train(1, 1);
    part.resume(folder_ / checkpoint_name(2));
    expect_same(part.values(), saved[static_cast<std::size_t>(rank)], 0);
    part.train(3, 4);
    expect_same(part.values(), ended[static_cast<std::size_t>(rank)], 0);
  });
}

/// In bfloat16 another layout rounds otherwise.
class CheckpointLayoutsTest : public CheckpointRanksTest {};

TEST_P(CheckpointLayoutsTest, GoesOnUnderAnotherLayout) {
  const Case& layout = GetParam();
  run({1, 1, layout.dtype}, 5, [&](int, Training& whole) {
    whole.train(1, 2);
    whole.save(folder_, 2);
    whole.train(3, 4);
    whole.save(folder_, 4);
  });
  run(layout, 6, [&](int, Training& part) {
    part.resume(folder_ / checkpoint_name(2));
    part.train(3, 4);
    part.save(folder_ / "many", 4);
  });
  expect_same(read(folder_ / "many" / checkpoint_name(4)),
              read(folder_ / checkpoint_name(4)), 1e-9);
}

std::string case_name(const testing::TestParamInfo<Case>& info) {
  return fmt::format("{}_ranks_over_{}_{}{}", info.param.world,
                     info.param.expert, name(info.param.dtype),
                     info.param.replicas ? "_replicas" : "");
}
const auto kFloat64Cases = testing::Values(
    Case{2, 1, DType::kFloat64}, Case{2, 2, DType::kFloat64},
    Case{3, 3, DType::kFloat64}, Case{4, 2, DType::kFloat64},
    Case{2, 2, DType::kFloat64, true}, Case{3, 3, DType::kFloat64, true},
    Case{4, 2, DType::kFloat64, true});

INSTANTIATE_TEST_SUITE_P(Float64, CheckpointRanksTest, kFloat64Cases,
                         case_name);
INSTANTIATE_TEST_SUITE_P(Float64, CheckpointLayoutsTest, kFloat64Cases,
                         case_name);
INSTANTIATE_TEST_SUITE_P(BFloat16, CheckpointRanksTest,
                         testing::Values(Case{1, 1, DType::kBFloat16},
                                         Case{2, 1, DType::kBFloat16},
                                         Case{2, 2, DType::kBFloat16},
                                         Case{3, 1, DType::kBFloat16},
                                         Case{3, 3, DType::kBFloat16, true},
                                         Case{4, 2, DType::kBFloat16}),
                         case_name);

}  // namespace
}  // namespace catena
