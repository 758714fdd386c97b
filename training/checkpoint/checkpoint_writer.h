#pragma once

#include <atomic>
#include <chrono>
#include <filesystem>
#include <future>
#include <optional>
#include <set>
#include <string>

#include "training/checkpoint/state.h"
#include "training/checkpoint/tensors.h"
#include "training/checkpoint/writer.h"
#include "training/config.h"

namespace catena {

/// Checkpoints of a run, written by a thread of its own while training goes
/// on; one at a time.
///
/// With several ranks all make the same calls in the same order, which are
/// exchanges, and all are given the same outcome: what one cannot write, none
/// has written. A rank that dies meanwhile ends every wait for it, as it ends
/// any exchange.
/// Thread rule: all calls from the training thread.
class CheckpointWriter {
 public:
  CheckpointWriter(std::filesystem::path checkpoints,
                   const CheckpointConfig& config, Model& model,
                   Optimizer& optimizer);
  /// Waits for what this rank writes, and not for other ranks.
  ~CheckpointWriter();
  CheckpointWriter(const CheckpointWriter&) = delete;
  CheckpointWriter& operator=(const CheckpointWriter&) = delete;

  struct Outcome {
    std::int64_t step = 0, bytes = 0;  ///< those that this rank has written
    double seconds = 0;                ///< of writing
    std::string error;                 ///< empty if it was written
  };

  /// Makes the folder and shows that it can be written to; warns where one
  /// checkpoint is more than there is room for.
  /// Throws: Error(kIo).
  void check_folder() const;
  /// What became of the last one is not known yet.
  [[nodiscard]] bool busy() const { return stage_ != Stage::kIdle; }
  /// Copies the state and returns; writing goes on behind. Not while busy().
  void begin(const TrainingState& state);
  /// What became of the last one, once, as soon as it is known.
  /// Throws: what exchanges do.
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
  enum class Stage {
    kIdle,
    kParts,  ///< ranks write
    kRest,   ///< all have ended; the first closes it, or gives up
  };

  void write();
  [[nodiscard]] bool thread_ended() const;
  /// This rank has done what others wait for at this stage.
  [[nodiscard]] bool own_ended() const;
  void wait_for_own();
  [[nodiscard]] bool parts_ended();
  [[nodiscard]] bool rest_ended();
  void share_failure();

  std::filesystem::path checkpoints_;
  CheckpointConfig config_;
  Ranks* ranks_;
  std::set<std::string> names_;
  WriterPart part_;
  Snapshot model_, optimizer_;
  TrainingState state_;
  Stage stage_ = Stage::kIdle;
  std::int64_t last_step_ = -1;
  std::atomic<bool> part_written_ = false, give_up_ = false;
  Outcome outcome_;  ///< the thread's, until it has ended
  std::future<void> thread_;
};

}  // namespace catena
