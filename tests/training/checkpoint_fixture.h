#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "training/checkpoint/checkpoint_writer.h"
#include "training/checkpoint/manifest.h"
#include "training/checkpoint/reader.h"

namespace catena {

namespace fs = std::filesystem;

/// A small model with moments, a folder for checkpoints, and writing them.
class CheckpointFixture : public testing::Test {
 protected:
  CheckpointFixture()
      : folder_(fs::path(testing::TempDir()) /
                fmt::format("checkpoint-{}-{}", ::getpid(), ++count_)),
        checkpoints_(folder_ / "checkpoints"),
        backend_(make_cpu_backend(1)),
        model_(*backend_, config(), {}),
        optimizer_(model_.parameters(), {}) {
    fill(1);
  }
  ~CheckpointFixture() override { fs::remove_all(folder_); }

  static ModelConfig config() {
    ModelConfig c;
    c.hidden = 16;
    c.layers = 1;
    c.vocabulary = 40;
    c.max_positions = 16;
    c.attention = {.heads = 2,
                   .kv_lora_rank = 8,
                   .qk_nope_size = 4,
                   .qk_rope_size = 4,
                   .v_size = 4};
    c.chain = {.routed_experts = 3, .top_k = 2, .intermediate = 8};
    c.router.correction_bias = true;
    return c;
  }

  /// Weights and moments that depend on `seed` alone.
  void fill(std::uint64_t seed) {
    model_.parameters().initialize(seed);
    double value = static_cast<double>(seed);
    for (const StoredTensor& tensor : tensors()) {
      if (tensor.name.find("exp_avg") == std::string::npos &&
          tensor.name.find("bias") == std::string::npos) {
        continue;
      }
      std::vector<double> values;
      for (std::int64_t i = 0; i < tensor.view.elements(); ++i) {
        values.push_back(value += 0.25);
      }
      write_values(*backend_, tensor.view, values);
    }
  }
  [[nodiscard]] std::vector<StoredTensor> tensors() {
    auto all = model_tensors(model_);
    for (auto& tensor : optimizer_tensors(model_.parameters(), optimizer_)) {
      all.push_back(tensor);
    }
    return all;
  }
  [[nodiscard]] std::vector<double> values() {
    std::vector<double> all;
    for (const StoredTensor& tensor : tensors()) {
      const auto some = read_values(*backend_, tensor.view);
      all.insert(all.end(), some.begin(), some.end());
    }
    return all;
  }

  std::int64_t write(std::int64_t step,
                     const std::function<void(const char*)>& phase = {}) {
    Snapshot model(*backend_, model_tensors(model_));
    Snapshot optimizer(*backend_,
                       optimizer_tensors(model_.parameters(), optimizer_));
    model.capture();
    optimizer.capture();
    TrainingState state;
    state.step = step;
    return write_checkpoint(checkpoints_, model, optimizer, state, phase);
  }
  [[nodiscard]] fs::path step_folder(std::int64_t step) const {
    return checkpoints_ / checkpoint_name(step);
  }
  [[nodiscard]] std::vector<std::int64_t> steps() const {
    std::vector<std::int64_t> result;
    for (const auto& place : list_checkpoints(checkpoints_)) {
      result.push_back(place.step);
    }
    return result;
  }

  static inline int count_ = 0;
  fs::path folder_, checkpoints_;
  std::unique_ptr<Backend> backend_;
  Model model_;
  Optimizer optimizer_;
};

}  // namespace catena
