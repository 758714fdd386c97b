#pragma once

#include <utility>
#include <vector>

namespace catena::launcher {

/// Who connects to whom.
using LinkRound = std::vector<std::pair<int, int>>;

/// Rounds in which every agent meets another one, at most one a round: all
/// pairs, or, where that takes more than `most` rounds, as many of them: every
/// agent has met as many others then, or one less.
[[nodiscard]] std::vector<LinkRound> link_schedule(
    const std::vector<int>& agents, std::size_t most);

/// These pairs, in rounds in which nobody meets two others.
[[nodiscard]] std::vector<LinkRound> link_schedule(const LinkRound& pairs);

}  // namespace catena::launcher
