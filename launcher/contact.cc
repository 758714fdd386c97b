#include "launcher/contact.h"

#include <algorithm>

namespace catena::launcher {

ContactRules contact_rules(Duration lease) {
  constexpr int kHeartbeatsPerLease = 10;
  return {.heartbeat = lease / kHeartbeatsPerLease, .lease = lease};
}

Contacts::News Contacts::heard(int agent, std::uint64_t incarnation, Time now) {
  const auto [at, first] = incarnations_.emplace(agent, incarnation);
  // One whose connection ended before it said anything has no number here.
  const bool is_over =
      !first && incarnation == at->second && over_.contains(agent);
  if (incarnation < at->second || is_over) return News::kFormer;
  over_.erase(agent);
  heard_[agent] = now;
  if (incarnation == at->second) return News::kSame;
  at->second = incarnation;
  return News::kAnother;
}

bool Contacts::hang_up(int agent, Time now) {
  if (over_.contains(agent) && heard_.contains(agent)) return false;
  over_.insert(agent);
  const Time then = now - rules_.lease;
  const auto at = heard_.emplace(agent, then).first;
  at->second = std::min(at->second, then);
  return true;
}

void Contacts::await_another(int agent) {
  over_.insert(agent);
  heard_.erase(agent);
}

bool Contacts::longer(int agent, Duration than, Time now) const {
  const auto at = heard_.find(agent);
  return rules_.on() && at != heard_.end() && now - at->second >= than;
}

bool Contacts::silent(int agent, Time now) const {
  return over_.contains(agent) || longer(agent, rules_.lease, now);
}

bool Contacts::lost(int agent, Time now) const {
  return longer(agent, rules_.until_lost(), now);
}

}  // namespace catena::launcher
