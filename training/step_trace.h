#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "training/run_folder.h"
#include "training/step_range.h"
#include "training/timeline.h"

namespace catena {

/// What `catena train --trace steps=A:B` says; `most`: the run's last step.
/// Throws: Error(kUsage) where it is malformed, or the run has no such step.
[[nodiscard]] StepRange parse_trace(const std::string& text, std::int64_t most);

/// A trace of some steps of a run, RUN/trace/rank-R.json of every rank R (see
/// Timeline::write): written once, after the last of them or at the end of the
/// run, whichever comes first. That it cannot be written is a warning.
///   StepTrace trace(steps, {.rank = 0, .ranks = 2});
///   Transport* watched = trace.watch(transport);
///   trace.set_run(run);
///   Trainer trainer(..., watched, ..., &trace);
/// Thread rule: one thread.
class StepTrace {
 public:
  StepTrace(const StepRange& steps, const Timeline::Owner& owner);

  /// Through these the rank does what is recorded. This outlives them.
  [[nodiscard]] std::unique_ptr<Backend> watch(std::unique_ptr<Backend> inner) {
    return timeline_.watch(std::move(inner));
  }
  /// Borrows it, before any communicator is made of it; null: the only rank,
  /// and null is returned.
  [[nodiscard]] Transport* watch(Transport* inner);
  /// Where it is written: `run` is the rank's own, as RunFolder::of_rank()
  /// says.
  void set_run(const RunFolder& run);

  /// Around each step of the run, also those that are not recorded.
  void begin_step(std::int64_t number);
  void end_step();
  /// Writes the file if the last step to record was `step`.
  void after_step(std::int64_t step);
  /// Writes what there is, if it was not written yet.
  void finish();

 private:
  StepRange steps_;
  std::filesystem::path path_;
  Timeline::Owner owner_;
  Timeline timeline_;
  std::unique_ptr<Transport> transport_;
  bool written_ = false;
};

}  // namespace catena
