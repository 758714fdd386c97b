#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "launcher/metrics_tail.h"

namespace catena::launcher {

/// Lines of some ranks' logs.
struct RankLines {
  int rank = 0;
  std::vector<std::string> lines = {};
};

/// All lines as one text, each behind the ranks that wrote it: "[0,2-4] line".
/// A rank's own order is kept. Ranks that say the same are merged where no
/// order forbids it; the lines that mark a generation are met in step,
/// whatever the time they tell.
///   width  ranks are padded to it, in characters
[[nodiscard]] std::string merge_lines(const std::vector<RankLines>& ranks,
                                      std::size_t width);

/// "0,2-4" of ascending numbers.
[[nodiscard]] std::string ranks_text(const std::vector<int>& ranks);

/// The logs of a run's ranks: RUN/logs/rank-K.log of a launched one, which has
/// a job.json, else log.txt of each rank. They may grow, be cut or be replaced.
class RunLogs {
 public:
  /// `ranks`: which; empty: all there are, later ones too.
  RunLogs(std::filesystem::path run, std::vector<int> ranks);
  /// What whole lines have come since the last call, of each rank that has
  /// some.
  [[nodiscard]] std::vector<RankLines> read();
  /// Whether there has been a log at all.
  [[nodiscard]] bool any() const { return !files_.empty(); }

 private:
  void find();

  std::filesystem::path run_;
  std::vector<int> wanted_;
  struct Log {
    int rank;
    GrowingFile file;
  };
  std::vector<Log> files_;
};

}  // namespace catena::launcher
