#pragma once

#include <atomic>
#include <filesystem>
#include <functional>
#include <set>
#include <string>

#include "training/checkpoint/state.h"
#include "training/checkpoint/tensors.h"
#include "training/config.h"

namespace catena {

/// The names inside a checkpoint.
inline constexpr const char* kModelFile = "model-00001-of-00001.safetensors";
inline constexpr const char* kIndexFile = "model.safetensors.index.json";
inline constexpr const char* kOptimizerFile =
    "optimizer-00001-of-00001.safetensors";
inline constexpr const char* kStateFile = "state.json";

/// Which of the ranks that write a checkpoint this one is.
struct WriterPart {
  int number = 0, count = 1;  ///< number -1: it writes nothing
  /// Names of what all parts write between them, each once; null: whatever
  /// they do. Borrowed; the first part needs it.
  const std::set<std::string>* names = nullptr;
  /// Once it holds, the first waits for no more notes; null: never. Borrowed.
  const std::atomic<bool>* give_up = nullptr;
};
/// "model-00001-of-00002.safetensors"; prefix: "model" or "optimizer".
[[nodiscard]] std::string part_name(const std::string& prefix,
                                    const WriterPart& part);

/// "step-000123".
[[nodiscard]] std::string checkpoint_name(std::int64_t step);

/// Writes one checkpoint, whole or not at all: every file, synced, into a
/// folder with a temporary name; the manifest last; then the folder takes its
/// name. A crash at any moment leaves either no step-N or a valid one.
/// With several parts each writes its tensors into the temporary folder, made
/// by prepare_checkpoint(), and a note of what it wrote, if it could; the first
/// waits for the notes of all, and does the rest.
/// `phase`, if given, is called by the first before each of: "model",
/// "optimizer", "notes", "index", "state", "manifest", "rename", "done".
/// Returns bytes written. Throws: Error(kIo), and Error(kInternal) naming a
/// tensor that no part has written, or two; if thrown by the first, the
/// temporary folder is gone.
std::int64_t write_checkpoint(
    const std::filesystem::path& checkpoints, const Snapshot& model,
    const Snapshot& optimizer, const TrainingState& state,
    const std::function<void(const char* phase)>& phase = {},
    const WriterPart& part = {});
/// Makes the temporary folder, and removes those of earlier ones.
/// Throws: Error(kIo).
void prepare_checkpoint(const std::filesystem::path& checkpoints,
                        std::int64_t step);

/// Removes what `config` does not keep, oldest first: it keeps the newest
/// keep_last, and the first at or after every multiple of keep_every. A folder
/// disappears under its name before its files do.
void remove_old_checkpoints(const std::filesystem::path& checkpoints,
                            const CheckpointConfig& config);

/// Removes what a crash left under temporary names.
void remove_unfinished_checkpoints(const std::filesystem::path& checkpoints);

}  // namespace catena
