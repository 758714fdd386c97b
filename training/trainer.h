#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "runtime/base/machine.h"
#include "training/checkpoint/checkpoint_writer.h"
#include "training/checkpoint/reader.h"
#include "training/checkpoint/state.h"
#include "training/estimate.h"
#include "training/evaluate.h"
#include "training/kernel_table.h"
#include "training/route_recorder.h"
#include "training/run_folder.h"
#include "training/sources.h"
#include "training/step.h"
#include "training/step_trace.h"

namespace catena {

/// Where a run begins: at random weights, or at one of these.
struct TrainerStart {
  /// A verified checkpoint of this run: everything goes on from it.
  std::optional<std::filesystem::path> resume;
  /// A run, checkpoint or .safetensors file: its weights, at step 0.
  std::optional<std::filesystem::path> weights;
};

/// A training run on this machine, from configuration to its last checkpoint.
///   Trainer trainer(schema, config, run, start);
///   Trainer::Result result = trainer.run();
class Trainer {
 public:
  /// Opens (or prepares) the data, builds the model, prints the start table,
  /// restores what `start` names.
  /// Throws: what is wrong with data, sizes, memory or checkpoint, before
  /// anything ran.
  /// With several ranks every one of them makes a Trainer, and calls the same;
  /// `transport` (null: one rank) is borrowed, and `run` the rank's own.
  /// `trace`: null, or whose transport this is. Borrowed.
  Trainer(const config::Schema& schema, const Config& config,
          const RunFolder& run, const TrainerStart& start,
          Transport* transport = nullptr, const RoutingFiles& routing = {},
          StepTrace* trace = nullptr);
  ~Trainer();

  struct Result {
    std::int64_t steps = 0, tokens = 0;
    double seconds = 0;
    double validation_before = 0, validation_after = 0;
    bool stopped = false;  ///< by a signal
  };
  /// However it ends, result.json says so.
  /// Throws: Error(kIo) if the last checkpoint could not be written.
  Result run();

  /// Greedy answers to config.run.prompts, on standard output.
  void answer_prompts();

 private:
  [[nodiscard]] bool leads() const {
    return ranks_ == nullptr || ranks_->rank() == 0;
  }
  /// Rank 0 first, so that it finds what is to be made; then the others. That
  /// may take longer than parallel.timeout.
  [[nodiscard]] data::Dataset open_in_turn(
      const std::vector<std::string>& inputs, const char* key);
  /// Throws: Error(kConfig), naming a rank that is not like rank 0, and how.
  void check_alike() const;
  /// Of this machine are ranks of one host name and boot, whatever nodes they
  /// were told to be.
  [[nodiscard]] MemorySharers memory_sharers(const Estimate& needs) const;
  /// The sum of all ranks'.
  [[nodiscard]] std::int64_t sum_of(std::int64_t value);
  /// Whether any rank was asked to stop, or to save: see training/stop.h.
  void agree_on_requests();
  void print_start(const Estimate& estimate) const;
  /// Null: not this rank's, or not wanted.
  [[nodiscard]] std::unique_ptr<EventFile> make_event_file() const;
  void describe_state(const config::Schema& schema);
  void resume(const std::filesystem::path& checkpoint);
  /// `changed`: the keys that are not what they were.
  void check_probe(const TrainingState& before,
                   const std::vector<ConfigDifference>& changed);

  Result run_to_end();
  [[nodiscard]] Result result_so_far() const;
  /// Computes the next step and takes it, skips it or goes back.
  void take_step(const data::Batch& batch, StepReport& report);
  void leave_out(const std::string& why, std::int64_t number);
  void rewind(const std::string& why, std::int64_t number);
  /// The newest checkpoint as rank 0 sees it; the others find and verify it.
  [[nodiscard]] std::optional<CheckpointPlace> agree_on_newest();
  double validate(std::int64_t step);
  void report(StepReport& step, double seconds_so_far);

  /// Begins a checkpoint of the present state, unless one is under way.
  void save();
  void save_last();
  /// Where the last saved weights are, or that none were; waits for what is
  /// being written.
  [[nodiscard]] std::string say_what_is_saved();
  void save_kernel_table(double seconds);
  void note(const std::optional<CheckpointWriter::Outcome>& outcome);
  void note_failure(const CheckpointWriter::Outcome& outcome);
  void write_result(const Result& result, const char* state,
                    const char* error = nullptr);

  const Config& config_;
  RunFolder run_;
  StepTrace* trace_;  ///< null: nothing is traced
  data::Tokenizer tokenizer_;
  std::unique_ptr<Backend> backend_;
  Precision precision_;
  std::unique_ptr<Ranks> ranks_;  ///< null: one rank
  data::Dataset train_data_, validation_data_;
  std::unique_ptr<Model> model_;
  std::unique_ptr<Optimizer> optimizer_;
  std::unique_ptr<Step> step_;
  std::unique_ptr<RouteRecorder> routes_;  ///< null: nobody looks at them
  std::unique_ptr<CheckpointWriter> writer_;
  std::unique_ptr<MetricsWriter> metrics_;
  std::unique_ptr<data::Sampler> sampler_;
  Validation validation_;
  SpikeGuard guard_;
  TrainingState state_;
  std::int64_t first_step_ = 0;  ///< of this process
  std::int64_t rewound_to_ = -1, rewinds_here_ = 0;
  bool checkpoint_due_ = false, stopping_ = false;
  std::int64_t checkpoints_failed_ = 0;  ///< of this process
  std::string checkpoint_error_;         ///< of the last that failed
  double stall_seconds_ = 0;
  double peak_flops_ = 0;
  KernelTable table_;  ///< of this process's steps
  std::int64_t planned_bytes_ = 0;
  std::int64_t anonymous_at_start_ = anonymous_bytes(), anonymous_peak_ = 0;
};

}  // namespace catena
