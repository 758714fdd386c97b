#include "launcher/contact.h"

namespace catena::launcher {

Contacts::News Contacts::heard(int agent, std::uint64_t incarnation, Time now) {
  const auto at = incarnations_.emplace(agent, incarnation).first;
  if (incarnation < at->second) return News::kFormer;
  heard_[agent] = now;
  if (incarnation == at->second) return News::kSame;
  at->second = incarnation;
  return News::kAnother;
}

bool Contacts::longer(int agent, Duration than, Time now) const {
  const auto at = heard_.find(agent);
  return rules_.on() && at != heard_.end() && now - at->second >= than;
}

bool Contacts::silent(int agent, Time now) const {
  return longer(agent, rules_.lease, now);
}

bool Contacts::lost(int agent, Time now) const {
  return longer(agent, rules_.until_lost(), now);
}

}  // namespace catena::launcher
