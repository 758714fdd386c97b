#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "launcher/control/secret.h"

namespace catena::launcher::control {

/// How an agent and its launcher show each other that they know the job's
/// secret, without saying it:
///
///   agent     Hello      version, job, agent, incarnation, nonce a
///   launcher  Challenge  version, nonce l
///   agent     Proof      mac(secret, "agent proves"    | terms)
///   launcher  Proof      mac(secret, "launcher proves" | terms)
///
/// terms = version | job | agent | incarnation | a | l, each of a length that
/// is known or said. The agent proves first, so that nobody is told a mac who
/// has not made one. Labels differ, so that no proof can be sent back; nonces
/// are new each time, so that none can be used again. The keys of the
/// connection's two directions follow from secret and terms (frame.h).
///
/// Both ends are pure state machines: content of a frame in, content of a frame
/// out. Whoever has refused, or is done, refuses all that follows.
inline constexpr std::uint32_t kProtocolVersion = 2;
inline constexpr std::size_t kMaxJobBytes = 64;
inline constexpr int kMaxAgents = 65536;

enum class Refusal {
  kMalformed,  ///< no greeting, or not the one that is due
  kVersion,    ///< of another version of this protocol
  kJob,        ///< of another job
  kAgent,      ///< no such agent is waited for, or another process
  kNonce,      ///< of another length, or one's own sent back
  kProof,      ///< the other end does not know the secret
};
[[nodiscard]] const char* name_of(Refusal refusal);  ///< "proof"

struct Identity {
  std::string job;
  int agent = 0;
  int incarnation = 0;  ///< of the process that is the agent: see Report
};

/// Keys to make a Sealer and an Opener of.
struct SessionKeys {
  Secret to_launcher, to_agent;
};

struct HandshakeStep {
  std::string send = {};  ///< if not empty
  std::optional<Refusal> refusal = {};
  std::optional<SessionKeys> keys = {};  ///< both ends have proved themselves
};

/// What both ends have in common.
struct Terms {
  std::uint32_t version = kProtocolVersion;
  Identity identity;
  std::string agent_nonce, launcher_nonce;
};

class AgentHandshake {
 public:
  /// `nonce` is random_nonce(), but in tests.
  AgentHandshake(Secret secret, Identity identity, std::string nonce);

  /// To be sent first.
  [[nodiscard]] std::string hello() const;
  [[nodiscard]] HandshakeStep receive(std::string_view content);
  /// The launcher's, if it is another one and was told.
  [[nodiscard]] std::uint32_t version_seen() const { return version_seen_; }

 private:
  enum class Phase { kHello, kProved, kOver };
  Phase phase_ = Phase::kHello;
  Secret secret_;
  Terms terms_;
  std::uint32_t version_seen_ = kProtocolVersion;
};

class LauncherHandshake {
 public:
  /// The incarnation of an agent that is waited for; none: none is.
  using Expected = std::function<std::optional<int>(int agent)>;
  LauncherHandshake(Secret secret, std::string job, Expected expected,
                    std::string nonce);

  [[nodiscard]] HandshakeStep receive(std::string_view content);
  /// Who it is. Meaningful once there are keys.
  [[nodiscard]] const Identity& identity() const { return terms_.identity; }

 private:
  enum class Phase { kListening, kChallenged, kOver };
  [[nodiscard]] HandshakeStep challenge(std::string_view content);
  [[nodiscard]] HandshakeStep judge(std::string_view content);

  Phase phase_ = Phase::kListening;
  Secret secret_;
  std::string job_;
  Expected expected_;
  Terms terms_;
};

}  // namespace catena::launcher::control
