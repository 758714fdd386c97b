#pragma once

#include <string>

#include "launcher/monitor/run_view.h"

namespace catena::launcher {

/// What the page asks for, each one JSON object with the keys of
/// docs/operations.md. Numbers that are not there are null.

/// /api/run: how it stands. now: seconds of the epoch.
[[nodiscard]] std::string run_json(const RunView& view, double now);
/// /api/series: `step` and a list for each of kColumns; validation.
[[nodiscard]] std::string series_json(const RunView& view);
/// /api/routing: load of experts at several steps, newest transitions.
[[nodiscard]] std::string routing_json(const RunView& view);

}  // namespace catena::launcher
