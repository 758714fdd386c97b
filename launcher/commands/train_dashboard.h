#pragma once

#include <optional>
#include <span>
#include <string>

#include "launcher/monitor/monitor.h"

namespace catena::launcher {

/// Where `catena train ARGUMENTS...` is to serve a dashboard: what
/// --dashboard=[ADDRESS:]PORT says; of --dashboard alone, what
/// CATENA_DASHBOARD_PORT and CATENA_DASHBOARD_ADDRESS say, or else a port of
/// 127.0.0.1 that is free. Nothing where none was asked for.
/// Throws: Error(kUsage) as parse_place().
[[nodiscard]] std::optional<MonitorPlace> dashboard_place(
    std::span<const std::string> arguments);

/// Starts a process that serves the run which this process is about to train:
/// it says the address on standard error once the trainer has said the run's
/// folder (kSaidRun, over kControlVariable's pipe), and ends with the trainer,
/// however that ends. A port that cannot be had is said, too, and holds up
/// nothing. This process stays what it is, so that run_trainer() may take its
/// place.
/// Thread rule: the only thread of the process.
/// Throws: Error(kIo).
void serve_beside(const MonitorPlace& place);

}  // namespace catena::launcher
