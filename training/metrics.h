#pragma once

#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "layers/statistics.h"
#include "parallel/traffic.h"
#include "training/event_file.h"

namespace catena {

/// What one optimizer step amounted to.
struct StepReport {
  std::int64_t step = 0, steps = 0;
  double loss = 0, gradient_norm = 0, learning_rate = 0;
  std::int64_t tokens = 0;         ///< real ones
  std::int64_t routed_tokens = 0;  ///< and padding, where it is kept
  std::int64_t trained_tokens = 0, total_tokens = 0;
  double seconds = 0;
  double flops = 0;       ///< of this step
  double peak_flops = 0;  ///< a second, by the probe; 0: unknown
  std::int64_t memory_bytes = 0, memory_peak_bytes = 0;
  double epoch = 0;
  /// [chain layer][iteration]
  std::vector<std::vector<RouteSummary>> routes;
  bool forced_balanced = false;  ///< experts were dealt out
  bool replayed = false;         ///< routes were a file's
  /// With several ranks: what this one exchanged, and, by [chain layer]
  /// [iteration], the load of the busiest rank over the mean.
  bool several_ranks = false;
  Traffic traffic;
  std::vector<std::vector<double>> rank_load;

  [[nodiscard]] double tokens_per_second() const;
  /// Part of the step in which this rank waited for others: 0 to 1.
  [[nodiscard]] double exposed() const;
  [[nodiscard]] double mfu() const;  ///< 0 to 1; 0 where the peak is unknown
};

/// RUN/metrics.jsonl, one object a line, flushed each time, with the names of
/// docs/operations.md, and RUN/routing.jsonl with the load of every expert and
/// the transitions between iterations.
/// With `events` every number that begins with catena_ goes there, too, under
/// its path in the line: catena_loss/train, catena_experts_idle/layer_0/
/// iteration_1; and of a step catena_expert_load_max_to_mean_ratio/worst and
/// catena_exposed_ratio, which the lines leave to their readers.
/// A line that cannot be written (the disk is full) is left out, with a
/// warning: training goes on.
/// Throws: Error(kIo) if the files cannot be opened.
class MetricsWriter {
 public:
  explicit MetricsWriter(const std::filesystem::path& folder,
                         std::unique_ptr<EventFile> events = nullptr);

  void write_step(const StepReport& report);
  void write_validation(std::int64_t step, double loss, std::int64_t tokens);
  void write_routing(std::int64_t step, const RoutingStatistics& statistics);
  /// Something that happened, such as a checkpoint: `facts` is a JSON object
  /// that comes after its name and step.
  void write_event(const char* event, std::int64_t step,
                   const std::string& facts);

 private:
  /// A file that lines are added to.
  class Lines {
   public:
    explicit Lines(std::filesystem::path file);
    ~Lines();
    Lines(const Lines&) = delete;
    Lines& operator=(const Lines&) = delete;
    void add(const std::string& line);

   private:
    std::filesystem::path path_;
    std::FILE* file_;
    bool broken_ = false;  ///< the last line could not be written
  };

  Lines metrics_, routing_;
  std::unique_ptr<EventFile> events_;  ///< null: none
  std::int64_t last_step_ = -1;        ///< that was written
};

/// Drops the lines of steps after `step`, and a line cut short by a crash,
/// from both files: what a run that goes on from there will write again. From
/// step 0 it writes all again.
void keep_metrics_up_to(std::int64_t step, const std::filesystem::path& folder);

/// "9.8k", "1.2M": three significant digits.
[[nodiscard]] std::string human_number(double value);
/// "612 MiB".
[[nodiscard]] std::string human_bytes(std::int64_t bytes);
/// "1h02m", "3m07s", "12s".
[[nodiscard]] std::string human_seconds(double seconds);

/// " step  120/300  loss 2.3412 ..." without the time left.
[[nodiscard]] std::string progress_text(const StepReport& report);

}  // namespace catena
