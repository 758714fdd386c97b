#pragma once

#include <filesystem>
#include <optional>
#include <vector>

#include "training/checkpoint/state.h"
#include "training/checkpoint/tensors.h"

namespace catena {

/// A folder named step-N; whether it is valid only verify_checkpoint() tells.
struct CheckpointPlace {
  std::int64_t step = 0;
  std::filesystem::path folder;
};

/// Newest first; empty if the folder does not exist.
[[nodiscard]] std::vector<CheckpointPlace> list_checkpoints(
    const std::filesystem::path& checkpoints);

/// The newest checkpoint, verified; nothing if there is none at all.
/// Throws: Error(kData) if the newest is damaged, naming what is wrong with it
/// and the newest valid one, to go on from.
[[nodiscard]] std::optional<CheckpointPlace> newest_checkpoint(
    const std::filesystem::path& checkpoints);

/// The newest one that is valid, after a warning about each newer one that is
/// damaged; nothing if none is.
[[nodiscard]] std::optional<CheckpointPlace> newest_valid_checkpoint(
    const std::filesystem::path& checkpoints);

/// The checkpoint at `folder`, verified, whose name must be that of its step.
/// Throws: Error(kData).
[[nodiscard]] CheckpointPlace open_checkpoint(
    const std::filesystem::path& folder);

/// Renames checkpoints of later steps to abandoned-step-N: a run that goes on
/// from an earlier one writes these steps again. Returns their number.
/// Throws: Error(kIo).
std::int64_t set_aside_after(std::int64_t step,
                             const std::filesystem::path& checkpoints);

/// Reads state.json of a verified checkpoint.
/// Throws: Error(kData), also where its step is not the manifest's.
[[nodiscard]] TrainingState read_state(const std::filesystem::path& folder);

/// Fills model and optimizer from a verified checkpoint.
/// Throws: Error(kData) naming the tensor that is missing or does not fit.
void restore(const std::filesystem::path& folder, Model& model,
             const Optimizer& optimizer);

/// The file with the weights that `path` stands for (a safetensors file, a
/// checkpoint, or a run, whose newest checkpoint it is), or the folder of
/// several such files; verified.
/// Throws: Error(kData), of a damaged checkpoint naming the newest valid one.
[[nodiscard]] std::filesystem::path find_weights(
    const std::filesystem::path& path);

}  // namespace catena
