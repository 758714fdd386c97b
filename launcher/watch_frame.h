#pragma once

#include <string>
#include <vector>

#include "launcher/metrics_tail.h"
#include "launcher/run_status.h"

namespace catena::launcher {

/// What one picture of a run shows.
struct WatchView {
  RunStatus status;
  std::vector<LossPoint> losses = {};
  std::vector<std::string> events = {};  ///< the last one last
};

/// The picture, a line each, none wider than `columns` characters and, where
/// `rows` is not 0, at most so many: state, step, speed, imbalance and exposed
/// communication; the loss as a line of block characters; ranks; events. What
/// ranks wrote cannot move the cursor. With `color`, escape sequences for
/// colours are within the lines. A pure function.
[[nodiscard]] std::vector<std::string> watch_frame(const WatchView& view,
                                                   int columns, int rows,
                                                   bool color);

/// The curve of `losses` in `columns` x `rows` characters, labels included,
/// with means where there are more points than columns; nothing for no points
/// or no room. Losses that are not finite are left out.
[[nodiscard]] std::vector<std::string> loss_chart(
    const std::vector<LossPoint>& losses, int columns, int rows);

/// The first `columns` characters of `text`, without what moves a cursor; what
/// is no UTF-8 is shown as "?".
[[nodiscard]] std::string cut(const std::string& text, int columns);

}  // namespace catena::launcher
