#pragma once

#include <map>
#include <set>

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
/// ranks are dead. Where it is seen that the wire is cut, or that the agent has
/// ended, the first of the two leases is over at once. Then another process
/// takes the agent's place; the former one is heard no more, whatever it does.
struct ContactRules {
  Duration heartbeat = {};
  Duration lease = {};
  Duration margin = std::chrono::seconds(2);

  [[nodiscard]] bool on() const { return heartbeat > Duration(); }
  [[nodiscard]] Duration until_lost() const { return 2 * lease + margin; }

  /// An agent that is stopped ends nobody: its ranks hold a lease of their own,
  /// from when the agent last heard the coordinator. It is longer than the
  /// agent's, so that none ends whose agent goes on in time, and over before
  /// the earliest time at which the agent can be taken for lost: another lease
  /// and a margin after the coordinator fell silent.
  [[nodiscard]] Duration rank_lease() const { return lease + margin / 2; }
};

/// With so long a lease; ten heartbeats are one.
[[nodiscard]] ContactRules contact_rules(Duration lease);

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
  /// The wire to it is cut: it is silent from now on. Returns whether that is
  /// news.
  bool hang_up(int agent, Time now);
  /// It is lost, and another process is to take its place: none is lost until
  /// that one has been heard, or hang_up() says that it will not be.
  void await_another(int agent);
  /// Nothing is said to it.
  [[nodiscard]] bool silent(int agent, Time now) const;
  /// Its ranks are dead.
  [[nodiscard]] bool lost(int agent, Time now) const;

 private:
  [[nodiscard]] bool longer(int agent, Duration than, Time now) const;

  ContactRules rules_;
  std::map<int, Time> heard_;
  std::map<int, std::uint64_t> incarnations_;
  std::set<int> over_;  ///< agents of whom another process alone is heard
};

}  // namespace catena::launcher
