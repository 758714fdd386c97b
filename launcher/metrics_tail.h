#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "launcher/monitor/metrics_record.h"

namespace catena::launcher {

/// New whole lines of a file that another process appends to, and that may be
/// cut, replaced or not there yet: then it is read from its beginning.
class GrowingFile {
 public:
  /// At first no more than the last `most_bytes` are read, whole lines alone.
  explicit GrowingFile(std::filesystem::path path,
                       std::int64_t most_bytes = std::int64_t{16} << 20)
      : path_(std::move(path)), most_bytes_(most_bytes) {}

  /// Lines since the last call, without their ends.
  [[nodiscard]] std::vector<std::string> lines();
  /// What a writer that has ended left behind the last whole line.
  [[nodiscard]] std::string rest() const { return unfinished_; }

 private:
  std::filesystem::path path_;
  std::int64_t most_bytes_, read_ = 0;
  std::uint64_t file_ = 0;  ///< inode; 0: none seen
  std::string unfinished_;
};

/// A step, as a line of metrics.jsonl tells it (docs/operations.md).
struct StepMetrics {
  std::int64_t step = 0;
  std::optional<double> loss = {}, tokens_per_second = {}, seconds = {};
  /// Worst max/mean of experts, over chain layers and iterations.
  std::optional<double> imbalance = {};
  /// Share of the step in which the rank waited for exchanges, 0 to 1.
  std::optional<double> waits = {};
};

struct LossPoint {
  std::int64_t step;
  double loss;  ///< of training
};

/// What RUN/metrics.jsonl of a rank has told so far. A step that is taken
/// again, after a restart, replaces it and what came after it.
class MetricsTail {
 public:
  explicit MetricsTail(std::filesystem::path file) : file_(std::move(file)) {}
  /// Reads what has come. Lines that are no metrics are passed over.
  void update();
  [[nodiscard]] const std::optional<StepMetrics>& newest() const {
    return newest_;
  }
  [[nodiscard]] const std::vector<LossPoint>& losses() const { return losses_; }
  /// "step 20: checkpoint", the last of them.
  [[nodiscard]] const std::vector<std::string>& events() const {
    return events_;
  }

 private:
  void take(const MetricsRecord& record);

  GrowingFile file_;
  std::optional<StepMetrics> newest_;
  std::vector<LossPoint> losses_;
  std::vector<std::string> events_;
};

}  // namespace catena::launcher
