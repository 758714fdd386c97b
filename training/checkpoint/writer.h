#pragma once

#include <filesystem>
#include <functional>
#include <future>
#include <optional>
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
/// by prepare_checkpoint(), and a note of what it wrote; the first waits for
/// the notes of all, and does the rest.
/// `phase`, if given, is called before each of: "model", "optimizer", "index",
/// "state", "manifest", "rename", "done". For tests.
/// Returns bytes written. Throws: Error(kIo), and Error(kInternal) naming a
/// tensor that no part has written, or two; the temporary folder is gone.
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

/// Checkpoints of a run, written by a thread of its own while training goes
/// on; one at a time.
/// Thread rule: all calls from the training thread.
class CheckpointWriter {
 public:
  CheckpointWriter(std::filesystem::path checkpoints,
                   const CheckpointConfig& config, Model& model,
                   Optimizer& optimizer);
  /// Waits for what is being written.
  ~CheckpointWriter();

  struct Outcome {
    std::int64_t step = 0, bytes = 0;
    double seconds = 0;  ///< of writing
    std::string error;   ///< empty if it was written
  };

  /// Makes the folder and shows that it can be written to; warns where one
  /// checkpoint is more than there is room for.
  /// Throws: Error(kIo).
  void check_folder() const;
  /// One is still being written.
  [[nodiscard]] bool busy() const;
  /// Copies the state and returns; writing goes on behind. Not while busy().
  /// With several ranks all call it, for the same step.
  void begin(const TrainingState& state);
  /// What became of the last one, once, as soon as it is known.
  [[nodiscard]] std::optional<Outcome> poll();
  /// The same, waiting for it; nothing if nothing is under way.
  [[nodiscard]] std::optional<Outcome> wait();
  /// The step of the last one written; -1: none.
  [[nodiscard]] std::int64_t last_step() const { return last_step_; }
  /// Host memory that copies take.
  [[nodiscard]] std::int64_t bytes() const {
    return model_.bytes() + optimizer_.bytes();
  }

 private:
  std::filesystem::path checkpoints_;
  CheckpointConfig config_;
  Ranks* ranks_;
  std::set<std::string> names_;
  WriterPart part_;
  Snapshot model_, optimizer_;
  TrainingState state_;
  std::int64_t last_step_ = -1;
  std::future<Outcome> pending_;
};

}  // namespace catena
