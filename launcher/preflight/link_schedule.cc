#include "launcher/preflight/link_schedule.h"

#include <algorithm>

namespace catena::launcher {

std::vector<LinkRound> link_schedule(const std::vector<int>& agents,
                                     std::size_t most) {
  constexpr int kNobody = -1;
  std::vector<int> circle = agents;
  if (circle.size() % 2 == 1) circle.push_back(kNobody);
  std::vector<LinkRound> rounds;
  while (circle.size() > 1 &&
         rounds.size() < std::min(most, circle.size() - 1)) {
    LinkRound round;
    for (std::size_t i = 0; i < circle.size() / 2; ++i) {
      const int one = circle[i], other = circle[circle.size() - 1 - i];
      if (one == kNobody || other == kNobody) continue;
      // Each is in turns who connects.
      round.emplace_back(one, other);
      if (rounds.size() % 2 == 1)
        std::swap(round.back().first, round.back().second);
    }
    rounds.push_back(std::move(round));
    // The first stays, the others go round.
    std::rotate(circle.begin() + 1, circle.end() - 1, circle.end());
  }
  return rounds;
}

std::vector<LinkRound> link_schedule(const LinkRound& pairs) {
  std::vector<LinkRound> rounds;
  for (const auto& pair : pairs) {
    const auto meets = [&](const auto& other) {
      return other.first == pair.first || other.first == pair.second ||
             other.second == pair.first || other.second == pair.second;
    };
    const auto at =
        std::find_if(rounds.begin(), rounds.end(), [&](const LinkRound& round) {
          return std::none_of(round.begin(), round.end(), meets);
        });
    if (at == rounds.end()) {
      rounds.push_back({pair});
    } else {
      at->push_back(pair);
    }
  }
  return rounds;
}

}  // namespace catena::launcher
