#pragma once

#include <map>
#include <optional>

#include "launcher/messages.h"

namespace catena::launcher {

/// How coordinator and agents know of each other over a wire that may lose
/// messages, or be cut. Both zero: they are in one process, and nothing is
/// lost.
///
/// Every heartbeat an agent says how its generation stands, and the coordinator
/// says again what it wants of it. An agent that has heard nothing for a lease
/// ends its ranks. A coordinator that has heard nothing for a lease says
/// nothing more to that agent, and after another one and a margin, when the
/// agent's own lease is over whichever way the wire is cut, knows that its
/// ranks are dead.
struct ContactRules {
  Duration heartbeat = {};
  Duration lease = {};
  Duration margin = std::chrono::seconds(2);

  [[nodiscard]] bool on() const { return heartbeat > Duration(); }
  [[nodiscard]] Duration until_lost() const { return 2 * lease + margin; }
};

/// The agents as the coordinator hears them. Pure, as RankState is.
class Contacts {
 public:
  explicit Contacts(ContactRules rules = {}) : rules_(rules) {}

  [[nodiscard]] const ContactRules& rules() const { return rules_; }
  /// A report has come from it.
  enum class News {
    kSame,
    kAnother,  ///< of a process that has taken the place of the one before
    kFormer,   ///< of one whose place another has taken: not to be heard
  };
  [[nodiscard]] News heard(int agent, std::uint64_t incarnation, Time now);
  /// Nothing is said to it.
  [[nodiscard]] bool silent(int agent, Time now) const;
  /// Its ranks are dead.
  [[nodiscard]] bool lost(int agent, Time now) const;

 private:
  [[nodiscard]] bool longer(int agent, Duration than, Time now) const;

  ContactRules rules_;
  std::map<int, Time> heard_;
  std::map<int, std::uint64_t> incarnations_;
};

}  // namespace catena::launcher
