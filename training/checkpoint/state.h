#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "training/checkpoint/hugging_face.h"
#include "training/data/sampler.h"
#include "training/spike_guard.h"

namespace catena {

/// Everything of a run besides tensors that it needs to go on as though it had
/// never stopped; `state.json` of a checkpoint.
struct TrainingState {
  std::int64_t step = 0;         ///< optimizer steps behind it
  std::int64_t tokens = 0;       ///< real tokens behind it
  double seconds = 0;            ///< in steps
  double validation_before = 0;  ///< loss before the first step
  data::SamplerState sampler;
  SpikeGuard::State spikes;
  /// Loss of the weights on a fixed row, for the reader to form again.
  double probe_loss = 0;
  /// Ranks, threads, processor and type: the same layout gives the same bits.
  std::string layout;
  std::string data_hash, validation_hash, tokenizer_hash;
  std::vector<ConfigAssignment> config;  ///< every key, resolved
};

[[nodiscard]] std::string state_text(const TrainingState& state);
/// Throws: Error(kData), naming `name` and the key.
[[nodiscard]] TrainingState parse_state(std::string_view text,
                                        const std::string& name);

/// How `now` differs from the run that a checkpoint was written by.
struct ConfigDifference {
  std::string key, before, now;
};
[[nodiscard]] std::vector<ConfigDifference> differences(
    const TrainingState& before, const TrainingState& now);

/// The run would not be the same run with another value: the model, the rows
/// the sampler makes, the seed.
[[nodiscard]] bool fixes_the_run(std::string_view key);

/// Throws: Error(kData) naming every differing key that fixes the run (and
/// tokenizer or data set by hash). Others are returned, for the log.
[[nodiscard]] std::vector<ConfigDifference> check_resumable(
    const TrainingState& before, const TrainingState& now,
    const std::filesystem::path& checkpoint);

}  // namespace catena
