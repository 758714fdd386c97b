#pragma once

#include <map>
#include <string>

#include "launcher/monitor/run_view.h"

namespace catena::launcher {

/// What /metrics says of a run: Prometheus text format 0.0.4, the names of
/// docs/operations.md. Counters and histograms never fall: after a restart,
/// steps that are taken again do not count again until they are passed.
/// Thread rule: one thread.
class RunMetrics {
 public:
  /// now: seconds of the epoch.
  [[nodiscard]] std::string text(const RunView& view, double now);

 private:
  std::map<std::string, double> highest_ = {};
};

inline constexpr const char* kMetricsType =
    "text/plain; version=0.0.4; charset=utf-8";

}  // namespace catena::launcher
