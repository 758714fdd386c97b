#pragma once

#include <chrono>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "launcher/monitor/line_follower.h"
#include "launcher/monitor/run_view.h"

namespace catena::launcher {

/// Follows the folder of a run: metrics.jsonl and routing.jsonl of rank 0,
/// RUN/ranks/K/metrics.jsonl of the others, job.json, journal.jsonl,
/// result.json, checkpoints/. Does nothing between calls of refresh(). Lines
/// that cannot be read are passed over. Memory: what RunView takes, whatever
/// the files' sizes. Thread rule: one thread.
class RunReader {
 public:
  static constexpr int kMostRanks = 4096;

  explicit RunReader(std::filesystem::path run);

  /// Reads what was written since the last time, for about `patience` at most;
  /// if there is more, view().bytes_read is below view().bytes.
  void refresh(std::chrono::milliseconds patience);
  [[nodiscard]] const RunView& view() const { return view_; }
  [[nodiscard]] const std::filesystem::path& run() const { return run_; }

 private:
  struct RankFile {
    explicit RankFile(std::filesystem::path path) : lines(std::move(path)) {}
    LineFollower lines;
    std::int64_t step = 0;  ///< of the last logged step
  };
  void read_settings();
  void find_ranks();
  void read_small_files();
  bool read_rank(std::size_t rank);
  bool read_routing();
  bool read_journal();
  void forget_rank(std::size_t rank);
  void take_metrics(std::size_t rank, std::string_view line);
  void take_step(std::size_t rank, const MetricsRecord& record);
  void take_row(const MetricsRecord& record);
  void take_event(const MetricsRecord& record);
  void take_routing(std::string_view line);

  std::filesystem::path run_;
  RunView view_;
  std::vector<RankFile> files_;
  std::size_t next_ = 0;  ///< of them, to be read
  LineFollower routing_, journal_;
  std::int64_t routing_stride_ = 1, routing_seen_ = 0;
  std::map<std::string, std::string> small_files_ = {};  ///< content
};

}  // namespace catena::launcher
