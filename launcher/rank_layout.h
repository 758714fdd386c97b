#pragma once

#include <string>
#include <vector>

#include "launcher/binding.h"
#include "launcher/hosts.h"

namespace catena::launcher {

/// Which ranks run on which hosts: one agent on each.
struct RankLayout {
  std::vector<Host> hosts = {};
  std::vector<std::vector<int>> ranks = {};  ///< of each host
};

/// Ranks 0, 1, ... laid on `hosts` in order: as many as each has slots, where
/// hosts that get none are left out; or, where no host says its slots, as
/// evenly as can be, the first ones getting one more.
/// Throws: Error(kUsage) where there are too few ranks or slots, or where some
/// hosts say their slots and others do not.
[[nodiscard]] RankLayout lay_ranks(int ranks, const std::vector<Host>& hosts);

/// The name of the host of a rank; "" where it has none.
[[nodiscard]] std::string host_of(const RankLayout& layout, int rank);
/// Of each host: which ranks it has, of all that stand on hosts of its name.
[[nodiscard]] std::vector<RankShare> rank_shares(const RankLayout& layout);
/// All names, each once, in order: "node1, node2".
[[nodiscard]] std::string host_names(const RankLayout& layout);

}  // namespace catena::launcher
