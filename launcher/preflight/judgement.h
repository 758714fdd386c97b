#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "launcher/preflight/probes.h"

namespace catena::launcher {

/// What a preflight has found. Pure functions.

/// A machine, as far as it has answered.
struct NodeFacts {
  std::string host = {};
  int ranks = 0;                                   ///< that share its memory
  std::optional<double> clock_ahead_seconds = {};  ///< of the launcher's
  double round_trip_seconds = 0;  ///< of that question; half of it is unsure
  std::optional<MachineFacts> machine = {};
  std::optional<double> flops = {};
  /// Why there is no more of it; "": all was answered.
  std::string silent = {};
  bool late = false;  ///< for no more than that it took too long
};

/// The way between two machines.
struct LinkFound {
  int from = 0, to = 0;  ///< who sent, and to whom
  LinkFacts facts = {};
  std::string failed = {};  ///< why there is none; "": there is
  bool late = false;        ///< nobody said so, it only took too long
};

/// The least latency and the greatest bandwidth of its links; nothing where
/// none has come about.
[[nodiscard]] std::optional<LinkFacts> best_links(
    const std::vector<LinkFound>& links, int node);

/// What a job needs of every machine; 0: not known.
struct JobNeeds {
  std::int64_t rank_bytes = 0;  ///< memory of a rank
  std::int64_t disk_bytes = 0;  ///< checkpoints that it keeps
  std::string program = {};
  std::vector<std::string> files = {};  ///< that all ranks read
};

enum class Severity {
  kNoted,  ///< the job can live with it
  kSlow,   ///< all others will wait for this machine
  kBad,    ///< ranks cannot run there
};
[[nodiscard]] const char* name_of(Severity severity);  ///< "slow"

/// Something that is wrong with a machine.
struct Finding {
  int node = 0;
  Severity severity = Severity::kNoted;
  std::string probe;  ///< "compute"
  std::string text;   ///< for people, figure and the others' median in it
  int code = 0;       ///< of the job that cannot start for it; of kBad alone
  std::optional<double> figure = {}, median = {};
};

[[nodiscard]] double median(std::vector<double> values);

/// The others' median, if values[at] is less than `part` of it, and further
/// from it than three of their robust standard deviations (1.4826 x the median
/// absolute deviation): far from the others by their own measure. Of one value
/// there are no others.
[[nodiscard]] std::optional<double> lags(std::span<const double> values,
                                         std::size_t at, double part);

/// In the order of nodes, worst first within each. `here`: what the launcher's
/// own machine answers; hashes differ that are not those of most machines and
/// the launcher, and, if as many have others, not the launcher's.
/// A machine's bandwidth is that of its best link, so that one with a bad
/// connection is named, and not those who talked to it; where links have
/// failed, the fewest machines are bad without whom there is none. Who was
/// only late, or has links that were, is slow.
[[nodiscard]] std::vector<Finding> judge(const std::vector<NodeFacts>& nodes,
                                         const std::vector<LinkFound>& links,
                                         const JobNeeds& needs,
                                         const MachineFacts* here);

}  // namespace catena::launcher
