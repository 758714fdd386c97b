#pragma once

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "layers/model_config.h"
#include "parallel/mesh.h"
#include "runtime/base/launch_config.h"
#include "training/optimizer.h"
#include "training/spike_guard.h"

namespace catena {

/// `[data]`.
struct DataConfig {
  std::vector<std::string> train, validation;
  std::string tokenizer;
  std::int64_t sequence = 512;
  std::string packing = "packed";  ///< packed | padded
  std::string loss = "all";        ///< all | response
  bool end_of_text = true;
  bool keep_padding = false;
  bool skip_bad_rows = false;
  std::string row_template = "query : {query} response : {response}";
  std::string cache = "runs/cache";
};

/// `[learning_rate]`.
struct LearningRateConfig {
  double peak = 3e-4;
  std::int64_t warmup_steps = 0;
  std::string schedule = "constant";  ///< constant | linear | cosine | wsd
  double final_ratio = 0;
  double decay_fraction = 0.2;
};

/// `[train]`.
struct TrainConfig {
  std::int64_t steps = 1000, batch_tokens = 32768;
  std::int64_t micro_batch_tokens = 16384;
  std::int64_t seed = 0;
  std::string precision = "auto";
  std::string recompute = "none";  ///< none | layer
  std::int64_t threads = 0;
};

/// `[validation]`.
struct ValidationConfig {
  std::int64_t every = 100, rows = 128;
};

/// `[metrics]`.
struct MetricsConfig {
  std::int64_t every = 1, routing_every = 50;
  bool tensorboard = true;
};

/// `[checkpoint]`.
struct CheckpointConfig {
  std::int64_t every = 500;  ///< steps; 0: only at the end and when stopped
  std::int64_t keep_last = 2;
  std::int64_t keep_every = 0;  ///< steps; 0: none beyond keep_last
};

/// `[run]`.
struct RunConfig {
  std::string folder = "runs/{name}";
  std::vector<std::string> prompts;
};

/// `[parallel]`.
struct ParallelConfig {
  std::int64_t chunks = 1;
  std::int64_t expert = 0;  ///< ranks that share experts; 0: as many as can
  std::string placement = "contiguous";  ///< contiguous | round_robin
  std::string placement_file;            ///< instead of it
  std::string transport = "auto";        ///< auto | shared_memory | gloo | mpi
  double row_budget = 2;                 ///< of a balanced share
  std::string wire = "auto";             ///< auto | float32 | bfloat16
  std::int64_t ranks_per_node = 0;       ///< 0: those that share a host
  bool hierarchical = false;             ///< a token crosses to a node once
  double timeout = 300;                  ///< seconds
};

/// Everything a training run is told.
struct Config {
  ModelConfig model;
  std::string model_file;  ///< model.config
  DataConfig data;
  TrainConfig train;
  LearningRateConfig learning_rate;
  OptimizerConfig optimizer;
  ValidationConfig validation;
  MetricsConfig metrics;
  CheckpointConfig checkpoint;
  SpikeConfig spikes;
  RunConfig run;
  ParallelConfig parallel;
  LaunchConfig launch;  ///< the launcher's; checked, and nothing else

  [[nodiscard]] std::int64_t rows_per_step() const {
    return train.batch_tokens / data.sequence;
  }
  /// That a rank computes at once.
  [[nodiscard]] std::int64_t micro_batch_rows() const {
    return std::max<std::int64_t>(1, train.micro_batch_tokens / data.sequence);
  }
  /// Of them, those of one rank of `world` where a whole step has fewer.
  [[nodiscard]] std::int64_t micro_rows(int world) const;
  /// Where a rank computes so many rows at once.
  [[nodiscard]] DispatchRules dispatch_rules(std::int64_t micro_rows) const;
  /// How `world` ranks are arranged.
  /// Throws: Error(kConfig).
  [[nodiscard]] Mesh mesh(int world) const;
  /// The same, of so many that share experts.
  [[nodiscard]] Mesh mesh(int world, int expert) const;
  /// Throws: Error(kConfig) that says where parallel.placement_file is wrong.
  [[nodiscard]] Placements placements(const Mesh& mesh) const;
};

/// Declares every key there is.
void describe(config::Schema& schema, Config& config);

/// Reads `path` (may be empty), then the `--set` assignments, takes what
/// neither says of the model from the config.json that model.config names, and
/// checks everything. Relative paths in the file stay
/// relative to the working folder.
/// Throws: Error(kConfig) with all problems, one a line.
void load(config::Schema& schema, Config& config,
          const std::filesystem::path& path,
          const std::vector<std::string>& assignments);

}  // namespace catena
