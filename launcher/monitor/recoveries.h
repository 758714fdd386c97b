#pragma once

#include <limits>
#include <nlohmann/json_fwd.hpp>
#include <string_view>

#include "launcher/monitor/distribution.h"

namespace catena::launcher {

/// What the restarts of a run took and lost, those of all its jobs that are
/// heard of, from the lines of its journal (launcher/journal.h), in seconds:
///
///   failure -stop-> RESTARTING -start-> RUNNING
///
/// failure: the launcher hears of the generation's first end of a rank or,
/// where an agent was lost, tells the others to end. RUNNING: all ranks have
/// met; they have yet to load their checkpoint. A restart loses the steps from
/// the newest checkpoint to the furthest that a rank told in this generation.
/// Thread rule: one thread.
class Recoveries {
 public:
  Recoveries();
  /// What is no line of a journal is passed over.
  void take(std::string_view line);

  Distribution stop, start;
  double lost_steps = 0;

 private:
  static constexpr double kNever = std::numeric_limits<double>::quiet_NaN();
  static constexpr double kUntold = -1;

  void take_ending(const nlohmann::json& line, double seconds);
  void note_failure(double seconds);
  void take_restart(const nlohmann::json& line, double seconds);
  void begin_generation(double restarting);

  // Of this generation; seconds since the launcher began.
  double failed_ = kNever;
  double furthest_ = kUntold;
  double restarting_ = kNever;  ///< since the generation before has ended
  bool ran_ = false;            ///< all its ranks had met
};

}  // namespace catena::launcher
