#pragma once

#include <chrono>
#include <filesystem>
#include <string>
#include <string_view>

#include "launcher/job_state.h"

namespace catena::launcher {

/// RUN/journal.jsonl: what became of a run's jobs, one after another. A line of
/// JSON for every change of a job's phase, and for every end of a rank, each
/// with `time` (UTC, for people), `seconds` since the launcher began (by a
/// clock that never jumps), `job` and `generation`; lines are only ever added.
///
/// A line is written whole, before anything is done for what it tells. If the
/// launcher is killed as it writes one, the next launcher cuts what there is of
/// it. A job's end is its last line, and is on the disk when moved() returns.
///
/// Thread rule: one thread, and one launcher a run (launcher.lock).
class Journal {
 public:
  /// Opens the file, which may be another job's until now, and tells that this
  /// job is new. Throws: Error(kIo).
  Journal(std::filesystem::path path, std::string job);
  ~Journal();
  Journal(const Journal&) = delete;
  Journal& operator=(const Journal&) = delete;

  /// Throws: Error(kIo): nothing of the line is there, unless it is an end that
  /// is there and may not last. Error(kInvalidArgument) where the job has
  /// ended.
  void moved(const JobState& state, const Moved& moved);
  /// Throws: as moved().
  void rank_ended(const RankEnded& ended);

 private:
  class Line;
  void add(const Line& line);
  void cut_torn_line() const;

  const std::filesystem::path path_;
  const std::string job_;
  const std::chrono::steady_clock::time_point begin_ =
      std::chrono::steady_clock::now();
  int descriptor_ = -1;
  bool ended_ = false;
};

}  // namespace catena::launcher
