// Agents, launchers and a wire that belongs to somebody who does not know the
// secret: he hears all greetings, and delivers them to whom he likes, as often
// as he likes, changed or not, or makes his own. Whatever he does
//   a launcher accepts only an agent that has proved itself to this very
//   launcher, as the agent and incarnation that it is, and has the same keys;
//   an agent accepts only a launcher that has accepted it, with the same keys;
//   who does not know the secret is accepted by nobody;
//   whoever has refused or is done says nothing more.
// The input is a list of what he does, see Wire::play().

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "launcher/control/frame.h"
#include "launcher/control/handshake.h"

namespace {

using namespace catena::launcher::control;

constexpr std::size_t kMostEnds = 8;
constexpr unsigned kAgents = 2;

void expect(bool holds) {
  if (!holds) std::abort();
}

/// Nobody says anything after his end, nor more than fits a frame.
struct Ended {
  bool over = false;
  void hear(const HandshakeStep& step) {
    expect(!over || (step.refusal && step.send.empty()));
    expect(!step.refusal || !step.keys);
    expect(step.send.size() <= kMaxGreetingBytes);
    over = over || step.refusal || step.keys;
  }
};
struct AgentEnd {
  AgentHandshake machine;
  Identity who;
  bool knows_secret;
  Ended ended = {};
};
struct LauncherEnd {
  LauncherHandshake machine;
  Ended ended = {};
};

bool same(const SessionKeys& one, const SessionKeys& other) {
  return one.to_agent.mac("") == other.to_agent.mac("") &&
         one.to_launcher.mac("") == other.to_launcher.mac("");
}

bool same(const Identity& one, const Identity& other) {
  return one.job == other.job && one.agent == other.agent &&
         one.incarnation == other.incarnation;
}

class Wire {
 public:
  explicit Wire(std::string_view bytes) : bytes_(bytes) {}

  void play() {
    while (!bytes_.empty()) {
      switch (take() % 5) {
        case 0:
          if (ends_.size() < kMostEnds) begin_agent(take());
          break;
        case 1:
          if (ends_.size() < kMostEnds) begin_launcher(take());
          break;
        case 2:
          deliver(pick());
          break;
        case 3:
          deliver(changed(pick()));
          break;
        default:
          deliver(own());
      }
    }
  }

 private:
  unsigned take() {
    if (bytes_.empty()) return 0;
    const auto byte = static_cast<unsigned char>(bytes_.front());
    bytes_.remove_prefix(1);
    return byte;
  }
  /// '0' is the first, that seeds can be read.
  std::size_t take_index(std::size_t count) { return (take() - '0') % count; }

  static Secret secret(char letter) { return Secret(std::string(32, letter)); }
  std::string nonce() {
    return std::string(kNonceBytes, static_cast<char>('A' + ends_.size()));
  }

  void begin_agent(unsigned byte) {
    const Identity who{"job", static_cast<int>(byte % kAgents),
                       static_cast<int>(byte / 2 % 2 + 1)};
    const bool knows = byte / 4 % 2 == 0;
    AgentHandshake machine(secret(knows ? 's' : 'x'), who, nonce());
    said_.push_back(machine.hello());
    ends_.emplace_back(AgentEnd{std::move(machine), who, knows});
  }
  void begin_launcher(unsigned byte) {
    const int incarnation = static_cast<int>(byte % 2 + 1);
    const auto expected = [incarnation](int agent) {
      return agent < static_cast<int>(kAgents) ? std::optional(incarnation)
                                               : std::nullopt;
    };
    ends_.emplace_back(
        LauncherEnd{LauncherHandshake(secret('s'), "job", expected, nonce())});
  }

  std::string pick() {
    return said_.empty() ? "" : said_[take_index(said_.size())];
  }
  std::string changed(std::string content) {
    const std::size_t at = take();
    const auto bits = static_cast<char>(take());
    if (at < content.size())
      content[at] = static_cast<char>(content[at] ^ bits);
    return content;
  }
  std::string own() {
    const std::size_t length = std::min<std::size_t>(take(), bytes_.size());
    std::string content(bytes_.substr(0, length));
    bytes_.remove_prefix(length);
    return content;
  }

  void deliver(const std::string& content) {
    if (ends_.empty()) return;
    End& end = ends_[take_index(ends_.size())];
    if (auto* agent = std::get_if<AgentEnd>(&end)) {
      receive(*agent, content);
    } else {
      receive(std::get<LauncherEnd>(end), content);
    }
  }
  void receive(AgentEnd& end, const std::string& content) {
    const HandshakeStep step = end.machine.receive(content);
    end.ended.hear(step);
    if (!step.send.empty()) {
      said_.push_back(step.send);
      if (end.knows_secret) proved_.push_back(end);
    }
    if (!step.keys) return;
    expect(end.knows_secret);
    expect(std::any_of(
        accepted_.begin(), accepted_.end(),
        [&](const SessionKeys& keys) { return same(keys, *step.keys); }));
  }
  void receive(LauncherEnd& end, const std::string& content) {
    const HandshakeStep step = end.machine.receive(content);
    end.ended.hear(step);
    if (!step.send.empty()) said_.push_back(step.send);
    if (!step.keys) return;
    accepted_.push_back(*step.keys);
    expect(std::any_of(proved_.begin(), proved_.end(), [&](AgentEnd agent) {
      const HandshakeStep last = agent.machine.receive(step.send);
      return last.keys && same(*last.keys, *step.keys) &&
             same(agent.who, end.machine.identity());
    }));
  }

  using End = std::variant<AgentEnd, LauncherEnd>;
  std::string_view bytes_;
  std::vector<std::string> said_;
  std::vector<End> ends_;
  std::vector<AgentEnd> proved_;  ///< as each was when it had just done so
  std::vector<SessionKeys> accepted_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data,
                                      std::size_t size) {
  Wire({reinterpret_cast<const char*>(data), size}).play();
  return 0;
}
