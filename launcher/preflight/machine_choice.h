#pragma once

#include <string>
#include <vector>

#include "launcher/preflight/judgement.h"

namespace catena::launcher {

/// Which machines a job wants.
struct Wanted {
  int machines = 1;  ///< the first of them, or others in place of these
  int least = 1;     ///< with fewer it cannot start
  bool exclude_slow = false;
};

/// Which it gets.
struct Chosen {
  std::vector<int> nodes = {};  ///< ascending
  int code = 0;                 ///< not 0: it cannot start, and `why`
  std::string why = {};
};

/// The first machines that are `there` and that nothing is wrong with; then
/// those that are not there, for whom the job may wait. Without exclude_slow
/// slow ones are as good as any, and a bad one is the job's end.
[[nodiscard]] Chosen choose(const std::vector<NodeFacts>& nodes,
                            const std::vector<bool>& there,
                            const std::vector<Finding>& findings,
                            const Wanted& wanted);

}  // namespace catena::launcher
