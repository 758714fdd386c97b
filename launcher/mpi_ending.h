#pragma once

#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "launcher/rank_state.h"

namespace catena::launcher {

/// How a step of mpirun has ended.
struct MpiEnd {
  int status = 0;              ///< mpirun's, as waitpid() says it
  std::string_view said = {};  ///< the end of mpirun's own words
  std::set<int> spoke = {};    ///< ranks that told anything
};

struct MpiEnding {
  int rank = 0, code = 0, signal = 0;
  std::string words{};   ///< what mpirun said
  bool unnamed = false;  ///< which says more than the rank: it may be another
};

/// How each rank has ended, as far as mpirun tells. 0 and 75 are of all ranks.
/// Else the rank that it names has failed, and the others, `stopped` from now
/// on, were ended for it. Where it names none, and no rank has told anything,
/// none could be started (69); else it is the first one that was not done (it
/// ends with that one's code, and says not always whose that is). Pure
/// but for `ranks`: who was stopped, and processes that never were.
[[nodiscard]] std::vector<MpiEnding> endings_of(
    const MpiEnd& end, std::map<int, RankState>& ranks);

}  // namespace catena::launcher
