#include "launcher/control/handshake.h"

#include <catena.pb.h>

#include <utility>

#include "launcher/control/parse.h"

namespace catena::launcher::control {
namespace {

constexpr std::string_view kAgentProves = "catena control: agent proves";
constexpr std::string_view kLauncherProves = "catena control: launcher proves";
constexpr std::string_view kToLauncher = "catena control: agent to launcher";
constexpr std::string_view kToAgent = "catena control: launcher to agent";

void add(std::string& bytes, std::uint32_t number) {
  for (const unsigned shift : {0U, 8U, 16U, 24U}) {
    bytes += static_cast<char>(number >> shift);
  }
}

void add(std::string& bytes, std::string_view text) {
  add(bytes, static_cast<std::uint32_t>(text.size()));
  bytes += text;
}

std::string bytes_of(std::string_view label, const Terms& terms) {
  std::string bytes;
  add(bytes, label);
  add(bytes, terms.version);
  add(bytes, terms.identity.job);
  add(bytes, static_cast<std::uint32_t>(terms.identity.agent));
  add(bytes, static_cast<std::uint32_t>(terms.identity.incarnation));
  add(bytes, terms.agent_nonce);
  add(bytes, terms.launcher_nonce);
  return bytes;
}

SessionKeys keys_of(const Secret& secret, const Terms& terms) {
  return {secret.derived(bytes_of(kToLauncher, terms)),
          secret.derived(bytes_of(kToAgent, terms))};
}

HandshakeStep refuse(Refusal refusal) { return {.refusal = refusal}; }

std::optional<proto::Greeting> greeting(std::string_view content) {
  proto::Greeting greeting;
  if (!parse(content, greeting)) return std::nullopt;
  return greeting;
}

bool is_nonce(const std::string& nonce, const std::string& own) {
  return nonce.size() == kNonceBytes && nonce != own;
}

}  // namespace

const char* name_of(Refusal refusal) {
  switch (refusal) {
    case Refusal::kMalformed:
      return "malformed";
    case Refusal::kVersion:
      return "version";
    case Refusal::kJob:
      return "job";
    case Refusal::kAgent:
      return "agent";
    case Refusal::kNonce:
      return "nonce";
    case Refusal::kProof:
      return "proof";
  }
  return "";
}

AgentHandshake::AgentHandshake(Secret secret, Identity identity,
                               std::string nonce)
    : secret_(std::move(secret)),
      terms_{.identity = std::move(identity),
             .agent_nonce = std::move(nonce),
             .launcher_nonce = {}} {}

std::string AgentHandshake::hello() const {
  proto::Greeting greeting;
  proto::Hello& hello = *greeting.mutable_hello();
  hello.set_version(terms_.version);
  hello.set_job(terms_.identity.job);
  hello.set_agent(static_cast<std::uint32_t>(terms_.identity.agent));
  hello.set_incarnation(
      static_cast<std::uint32_t>(terms_.identity.incarnation));
  hello.set_nonce(terms_.agent_nonce);
  return greeting.SerializeAsString();
}

HandshakeStep AgentHandshake::receive(std::string_view content) {
  const Phase before = std::exchange(phase_, Phase::kOver);
  const auto said = greeting(content);
  if (!said || before == Phase::kOver) return refuse(Refusal::kMalformed);
  if (before == Phase::kProved) {
    if (!said->has_launcher_proof()) return refuse(Refusal::kMalformed);
    if (!secret_.proves(said->launcher_proof().mac(),
                        bytes_of(kLauncherProves, terms_))) {
      return refuse(Refusal::kProof);
    }
    return {.keys = keys_of(secret_, terms_)};
  }
  if (!said->has_challenge()) return refuse(Refusal::kMalformed);
  version_seen_ = said->challenge().version();
  if (version_seen_ != terms_.version) return refuse(Refusal::kVersion);
  terms_.launcher_nonce = said->challenge().nonce();
  if (!is_nonce(terms_.launcher_nonce, terms_.agent_nonce)) {
    return refuse(Refusal::kNonce);
  }
  phase_ = Phase::kProved;
  proto::Greeting proof;
  proof.mutable_agent_proof()->set_mac(
      std::string(text_of(secret_.mac(bytes_of(kAgentProves, terms_)))));
  return {.send = proof.SerializeAsString()};
}

LauncherHandshake::LauncherHandshake(Secret secret, std::string job,
                                     Expected expected, std::string nonce)
    : secret_(std::move(secret)),
      job_(std::move(job)),
      expected_(std::move(expected)),
      terms_{.identity = {},
             .agent_nonce = {},
             .launcher_nonce = std::move(nonce)} {}

HandshakeStep LauncherHandshake::receive(std::string_view content) {
  switch (std::exchange(phase_, Phase::kOver)) {
    case Phase::kListening:
      return challenge(content);
    case Phase::kChallenged:
      return judge(content);
    case Phase::kOver:
      break;
  }
  return refuse(Refusal::kMalformed);
}

HandshakeStep LauncherHandshake::challenge(std::string_view content) {
  const auto said = greeting(content);
  if (!said || !said->has_hello()) return refuse(Refusal::kMalformed);
  const proto::Hello& hello = said->hello();
  proto::Greeting answer;
  answer.mutable_challenge()->set_version(kProtocolVersion);
  answer.mutable_challenge()->set_nonce(terms_.launcher_nonce);
  if (hello.version() != kProtocolVersion) {
    // Told, so that the agent can say which program is too old.
    return {.send = answer.SerializeAsString(), .refusal = Refusal::kVersion};
  }
  if (hello.job() != job_) return refuse(Refusal::kJob);
  if (hello.agent() >= static_cast<std::uint32_t>(kMaxAgents)) {
    return refuse(Refusal::kAgent);
  }
  const int agent = static_cast<int>(hello.agent());
  const auto incarnation = expected_(agent);
  if (!incarnation ||
      hello.incarnation() != static_cast<std::uint32_t>(*incarnation)) {
    return refuse(Refusal::kAgent);
  }
  terms_.identity = {job_, agent, *incarnation};
  terms_.agent_nonce = hello.nonce();
  if (!is_nonce(terms_.agent_nonce, terms_.launcher_nonce)) {
    return refuse(Refusal::kNonce);
  }
  phase_ = Phase::kChallenged;
  return {.send = answer.SerializeAsString()};
}

HandshakeStep LauncherHandshake::judge(std::string_view content) {
  const auto said = greeting(content);
  if (!said || !said->has_agent_proof()) return refuse(Refusal::kMalformed);
  if (!secret_.proves(said->agent_proof().mac(),
                      bytes_of(kAgentProves, terms_))) {
    return refuse(Refusal::kProof);
  }
  // While it proved itself another one may have come in its place.
  if (expected_(terms_.identity.agent) != terms_.identity.incarnation) {
    return refuse(Refusal::kAgent);
  }
  proto::Greeting proof;
  proof.mutable_launcher_proof()->set_mac(
      std::string(text_of(secret_.mac(bytes_of(kLauncherProves, terms_)))));
  return {.send = proof.SerializeAsString(), .keys = keys_of(secret_, terms_)};
}

}  // namespace catena::launcher::control
