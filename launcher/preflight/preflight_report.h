#pragma once

#include <string>
#include <vector>

#include "launcher/preflight/machine_choice.h"

namespace catena::launcher {

/// A preflight, for people: a header and a line a machine, sixteen at most; of
/// one machine, one line.
[[nodiscard]] std::vector<std::string> preflight_table(
    const std::vector<NodeFacts>& nodes, const std::vector<LinkFound>& links,
    const JobNeeds& needs);

/// "slow: 3 (node4): 1.2 GFLOP/s, and the median is 24.1 GFLOP/s".
[[nodiscard]] std::string finding_text(const std::vector<NodeFacts>& nodes,
                                       const Finding& finding);

/// RUN/preflight.json: schema; needs; medians; nodes,
/// each with what it answered (null: nothing) and its findings; links; chosen:
/// the numbers of those that the job gets; error (null: none).
[[nodiscard]] std::string preflight_json(const std::vector<NodeFacts>& nodes,
                                         const std::vector<LinkFound>& links,
                                         const JobNeeds& needs,
                                         const std::vector<Finding>& findings,
                                         const Chosen& chosen);

}  // namespace catena::launcher
