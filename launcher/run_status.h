#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "launcher/lock_holder.h"
#include "launcher/metrics_tail.h"

namespace catena::launcher {

/// The folder of the run that `given` names or, where it is empty, of the one
/// under runs/ in which something was written last.
/// Throws: Error(kUsage) where that is none.
[[nodiscard]] std::filesystem::path find_run(const std::string& given);

struct RankStatus {
  int rank = 0;
  /// waiting, starting, running, saving, stopping, ended or unknown
  std::string state;
  std::optional<StepMetrics> newest = {};
  std::optional<double> silent_seconds = {};  ///< since its last metrics
  int restarts = 0;                           ///< that it was the cause of
  std::string last_error = {};                ///< of its last failure
};

/// How a run stands, from its folder alone.
struct RunStatus {
  std::filesystem::path run;
  bool launched = false;  ///< by `catena launch`
  std::string job = {}, host = {};
  /// As in job.json, or for a run without one RUNNING, or how result.json says
  /// it ended; LOST: nobody on this machine is at work, and no end is written.
  std::string state = {};
  bool ended = false;
  int generation = 0, restarts = 0;
  std::optional<int> exit_code = {};
  std::optional<std::int64_t> checkpoint_step = {};
  std::optional<double> seconds = {};
  std::optional<int> process = {};  ///< that is at work here
  std::string last_error = {};
  std::vector<RankStatus> ranks = {};
};

/// Reads a run's folder again and again; each time only what is new. One
/// thread. What is not there yet, or cannot be read, is left out.
class StatusReader {
 public:
  explicit StatusReader(std::filesystem::path run) : run_(std::move(run)) {}
  [[nodiscard]] RunStatus read();
  /// Of rank 0, as of the last read().
  [[nodiscard]] const MetricsTail* metrics() const;

 private:
  void read_job(RunStatus& status) const;
  void read_result(RunStatus& status) const;
  void read_ranks(RunStatus& status);

  std::filesystem::path run_;
  std::map<int, MetricsTail> metrics_;
};

/// The process to which a stop of this run is to be said, if it is here.
[[nodiscard]] std::optional<LockHolder> process_of(
    const std::filesystem::path& run);

/// RUN, or RUN/ranks/K: where a rank writes its own files.
[[nodiscard]] std::filesystem::path rank_folder(
    const std::filesystem::path& run, int rank);

/// A few lines and a table for people; one JSON object.
[[nodiscard]] std::string status_text(const RunStatus& status);
[[nodiscard]] std::string status_json(const RunStatus& status);
/// "RUNNING, generation 2, 1 restart, 3m12s"
[[nodiscard]] std::string headline(const RunStatus& status);
/// The table alone: a line for its head and one a rank.
[[nodiscard]] std::vector<std::string> rank_table(const RunStatus& status);
/// "512", "9.8k", "1.2M"; "-" for none.
[[nodiscard]] std::string short_number(std::optional<double> number);
[[nodiscard]] std::string duration_text(double seconds);  ///< "1h02m", "12s"

}  // namespace catena::launcher
