#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "launcher/agent_state.h"
#include "launcher/control/envelope.h"
#include "launcher/control/frame.h"
#include "launcher/control/handshake.h"
#include "launcher/job_state.h"

namespace catena::bench {

/// One end of a connection, without the socket: what comes in is bytes, and so
/// is what goes out.
class WireEnd {
 public:
  /// What was said since it was last asked.
  [[nodiscard]] std::string take_said() { return std::exchange(said_, {}); }
  void say(const launcher::control::Message& message);
  void greet(const std::string& content);
  /// Both ends have proved themselves.
  void seal(const launcher::control::Secret& send_key,
            const launcher::control::Secret& receive_key);
  /// Bytes as a socket brings them, in pieces; calls greeted(content) until
  /// seal(), then heard(message).
  template <class Greeted, class Heard>
  void receive(std::string_view bytes, Greeted greeted, Heard heard) {
    constexpr std::size_t kPiece = 4096;
    for (; !bytes.empty();
         bytes.remove_prefix(std::min(bytes.size(), kPiece))) {
      reader_.add(bytes.substr(0, kPiece));
      while (const auto content = reader_.next()) {
        if (opener_) {
          heard(launcher::control::read(opener_->open(*content)));
        } else {
          greeted(*content);
        }
      }
    }
  }

 private:
  launcher::control::FrameReader reader_{launcher::control::kMaxGreetingBytes};
  std::optional<launcher::control::Sealer> sealer_;
  std::optional<launcher::control::Opener> opener_;
  std::string said_;
};

/// One agent and its ranks, which do what they are told.
class SimulatedAgent {
 public:
  SimulatedAgent(int agent, launcher::ContactRules contact);

  /// Its part of a connection begins.
  void connect();
  void receive(std::string_view bytes, launcher::Time now);
  /// Ranks that were started meet; those that were told to end do.
  void live(launcher::Time now);
  /// Heartbeats that are due.
  void tick(launcher::Time now);
  /// Every rank says that it has taken this step.
  void step(std::int64_t step, launcher::Time now);
  /// A rank of it is killed.
  void kill_rank(launcher::Time now);
  [[nodiscard]] std::string take_said() { return wire_.take_said(); }

 private:
  void greeted(const std::string& content);
  void heard(const launcher::control::Message& message, launcher::Time now);
  void act(const launcher::AgentActions& actions, launcher::Time now);

  launcher::AgentState state_;
  launcher::control::AgentHandshake handshake_;
  WireEnd wire_;
  std::set<int> started_, ending_;  ///< ranks
  std::optional<launcher::Time> beat_at_;
};

/// The launcher's part: what coordinator.cc, remote_agents.cc and
/// control/server.cc do, but for sockets, timers and files.
class SimulatedLauncher {
 public:
  SimulatedLauncher(launcher::JobOptions options, launcher::Time now);

  void receive(int agent, std::string_view bytes, launcher::Time now);
  void tick(launcher::Time now);
  [[nodiscard]] std::string take_said(int agent);
  [[nodiscard]] const launcher::JobState& job() const { return job_; }
  [[nodiscard]] std::int64_t heard() const { return heard_; }  ///< messages
  [[nodiscard]] std::int64_t said() const { return said_; }

 private:
  struct Peer {
    launcher::control::LauncherHandshake handshake;
    WireEnd wire = {};
    bool connected = false;
  };
  void greeted(int agent, const std::string& content);
  void say(int agent, const launcher::control::Message& message);
  void act(const launcher::JobActions& actions);

  launcher::JobState job_;
  std::vector<Peer> peers_;
  std::optional<launcher::Time> beat_at_;
  std::int64_t heard_ = 0, said_ = 0;
};

}  // namespace catena::bench
