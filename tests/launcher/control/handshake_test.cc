#include "launcher/control/handshake.h"

#include <catena.pb.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "launcher/control/frame.h"

namespace catena::launcher::control {
namespace {

constexpr int kAgent = 3, kIncarnation = 2;

Secret secret(char letter = 's') { return Secret(std::string(64, letter)); }
std::string nonce(char letter) { return std::string(kNonceBytes, letter); }

LauncherHandshake::Expected expects(int agent, int incarnation) {
  return [agent, incarnation](int asked) {
    return asked == agent ? std::optional(incarnation) : std::nullopt;
  };
}

AgentHandshake make_agent(Secret key = secret(),
                          Identity who = {"job", kAgent, kIncarnation}) {
  return {std::move(key), std::move(who), nonce('a')};
}
LauncherHandshake make_launcher(char letter = 'l') {
  return {secret(), "job", expects(kAgent, kIncarnation), nonce(letter)};
}

/// What somebody on the wire makes of a greeting.
using Tamper = std::function<void(proto::Greeting&)>;

std::string changed(const std::string& content, const Tamper& tamper) {
  proto::Greeting greeting;
  EXPECT_TRUE(greeting.ParseFromString(content));
  if (tamper) tamper(greeting);
  return greeting.SerializeAsString();
}

struct Tampers {
  Tamper hello = {}, challenge = {}, agent_proof = {}, launcher_proof = {};
};

struct Outcome {
  std::optional<Refusal> by_agent, by_launcher;
  std::optional<SessionKeys> of_agent, of_launcher;
};

/// Until one refuses or both are done.
Outcome shake_hands(AgentHandshake agent, LauncherHandshake launcher,
                    const Tampers& tampers = {}) {
  Outcome outcome;
  HandshakeStep step = launcher.receive(changed(agent.hello(), tampers.hello));
  outcome.by_launcher = step.refusal;
  if (step.refusal) return outcome;
  step = agent.receive(changed(step.send, tampers.challenge));
  outcome.by_agent = step.refusal;
  if (step.refusal) return outcome;
  step = launcher.receive(changed(step.send, tampers.agent_proof));
  outcome.by_launcher = step.refusal;
  outcome.of_launcher = step.keys;
  if (step.refusal) return outcome;
  step = agent.receive(changed(step.send, tampers.launcher_proof));
  outcome.by_agent = step.refusal;
  outcome.of_agent = step.keys;
  return outcome;
}

void flip(std::string& bytes) { bytes[0] = static_cast<char>(bytes[0] ^ 1); }

TEST(HandshakeTest, WhoKnowsTheSecretGetsKeysOfTwoDirections) {
  const Outcome outcome = shake_hands(make_agent(), make_launcher());
  ASSERT_TRUE(outcome.of_agent && outcome.of_launcher);
  Sealer there(outcome.of_agent->to_launcher);
  const std::string sealed = there.seal("report").substr(kLengthBytes);
  EXPECT_EQ(Opener(outcome.of_launcher->to_launcher).open(sealed), "report");
  EXPECT_ANY_THROW(
      static_cast<void>(Opener(outcome.of_launcher->to_agent).open(sealed)));
}

TEST(HandshakeTest, GreetingsFitTheirFrames) {
  AgentHandshake agent = make_agent(
      secret(), {std::string(kMaxJobBytes, 'j'), kMaxAgents - 1, 1 << 30});
  EXPECT_LE(agent.hello().size(), kMaxGreetingBytes);
}

TEST(HandshakeTest, TheLauncherRefuses) {
  struct Case {
    const char* what;
    AgentHandshake agent;
    Refusal refusal;
  };
  const Case cases[] = {
      {"a wrong secret", make_agent(secret('x')), Refusal::kProof},
      {"another job", make_agent(secret(), {"other", kAgent, kIncarnation}),
       Refusal::kJob},
      {"an agent it does not wait for",
       make_agent(secret(), {"job", 4, kIncarnation}), Refusal::kAgent},
      {"one of an earlier incarnation",
       make_agent(secret(), {"job", kAgent, kIncarnation - 1}),
       Refusal::kAgent},
      {"one of a later incarnation",
       make_agent(secret(), {"job", kAgent, kIncarnation + 1}),
       Refusal::kAgent},
      {"its own nonce, sent back",
       {secret(), {"job", kAgent, kIncarnation}, nonce('l')},
       Refusal::kNonce},
      {"a short nonce",
       {secret(), {"job", kAgent, kIncarnation}, "short"},
       Refusal::kNonce}};
  for (const Case& each : cases) {
    SCOPED_TRACE(each.what);
    const Outcome outcome = shake_hands(each.agent, make_launcher());
    EXPECT_EQ(outcome.by_launcher, each.refusal);
    EXPECT_FALSE(outcome.of_launcher.has_value());
    EXPECT_FALSE(outcome.of_agent.has_value());
  }
}

TEST(HandshakeTest, WhatAStrangerSaysIsNotWrittenAnywhere) {
  proto::Greeting greeting;
  ASSERT_TRUE(greeting.ParseFromString(make_agent().hello()));
  greeting.mutable_hello()->set_job("\xff\xfe");
  const std::string hello = greeting.SerializeAsString();
  ::testing::internal::CaptureStderr();
  EXPECT_EQ(make_launcher().receive(hello).refusal, Refusal::kJob);
  EXPECT_EQ(::testing::internal::GetCapturedStderr(), "");
}

TEST(HandshakeTest, WhatIsChangedOnTheWireIsRefused) {
  struct Case {
    const char* what;
    Tampers tampers;
    std::optional<Refusal> by_launcher, by_agent;
  };
  const Tamper older = [](proto::Greeting& g) {
    if (g.has_hello()) g.mutable_hello()->set_version(0);
    if (g.has_challenge()) g.mutable_challenge()->set_version(0);
  };
  const Case cases[] = {
      {"a downgrade of the hello", {.hello = older}, Refusal::kVersion, {}},
      {"a downgrade of the challenge",
       {.challenge = older},
       {},
       Refusal::kVersion},
      {"the agent's nonce",
       {.hello =
            [](proto::Greeting& g) {
              flip(*g.mutable_hello()->mutable_nonce());
            }},
       Refusal::kProof,
       {}},
      {"the launcher's nonce",
       {.challenge =
            [](proto::Greeting& g) {
              flip(*g.mutable_challenge()->mutable_nonce());
            }},
       Refusal::kProof,
       {}},
      {"the agent's own nonce as the launcher's",
       {.challenge =
            [](proto::Greeting& g) {
              g.mutable_challenge()->set_nonce(nonce('a'));
            }},
       {},
       Refusal::kNonce},
      {"the agent's proof",
       {.agent_proof =
            [](proto::Greeting& g) {
              flip(*g.mutable_agent_proof()->mutable_mac());
            }},
       Refusal::kProof,
       {}},
      {"a proof cut short",
       {.agent_proof =
            [](proto::Greeting& g) {
              g.mutable_agent_proof()->mutable_mac()->resize(31);
            }},
       Refusal::kProof,
       {}},
      {"the launcher's proof",
       {.launcher_proof =
            [](proto::Greeting& g) {
              flip(*g.mutable_launcher_proof()->mutable_mac());
            }},
       {},
       Refusal::kProof}};
  for (const Case& each : cases) {
    SCOPED_TRACE(each.what);
    const Outcome outcome =
        shake_hands(make_agent(), make_launcher(), each.tampers);
    EXPECT_EQ(outcome.by_launcher, each.by_launcher);
    EXPECT_EQ(outcome.by_agent, each.by_agent);
    EXPECT_FALSE(outcome.of_agent.has_value());
  }
}

TEST(HandshakeTest, SwappedRolesAreRefused) {
  // A launcher that sends an agent's own proof back as its own.
  AgentHandshake agent = make_agent();
  LauncherHandshake launcher = make_launcher();
  HandshakeStep step = launcher.receive(agent.hello());
  step = agent.receive(step.send);
  const std::string reflected = changed(step.send, [](proto::Greeting& g) {
    const std::string mac = g.agent_proof().mac();
    g.mutable_launcher_proof()->set_mac(mac);
  });
  EXPECT_EQ(agent.receive(reflected).refusal, Refusal::kProof);
  // One that plays the other's part altogether.
  EXPECT_EQ(make_launcher().receive(reflected).refusal, Refusal::kMalformed);
  EXPECT_EQ(make_agent().receive(make_agent().hello()).refusal,
            Refusal::kMalformed);
  const std::string challenge = make_launcher().receive(agent.hello()).send;
  EXPECT_EQ(make_launcher().receive(challenge).refusal, Refusal::kMalformed);
}

TEST(HandshakeTest, ARecordedHandshakeOpensNothingAgain) {
  AgentHandshake agent = make_agent();
  LauncherHandshake first = make_launcher('1');
  const std::string hello = agent.hello();
  const std::string proof = agent.receive(first.receive(hello).send).send;
  EXPECT_TRUE(first.receive(proof).keys.has_value());
  // The same bytes, the agent's nonce too, at another connection.
  LauncherHandshake second = make_launcher('2');
  EXPECT_FALSE(second.receive(hello).refusal.has_value());
  EXPECT_EQ(second.receive(proof).refusal, Refusal::kProof);
}

TEST(HandshakeTest, ARecordedHandshakeOpensNoOtherIncarnation) {
  // Even with nonces that were the same by a fault: the incarnation is in the
  // proof.
  AgentHandshake agent = make_agent();
  const std::string hello = agent.hello();
  LauncherHandshake first = make_launcher();
  const std::string proof = agent.receive(first.receive(hello).send).send;
  LauncherHandshake next(secret(), "job", expects(kAgent, kIncarnation + 1),
                         nonce('l'));
  EXPECT_EQ(next.receive(hello).refusal, Refusal::kAgent);
  LauncherHandshake again(secret(), "job", expects(kAgent, kIncarnation + 1),
                          nonce('l'));
  const std::string raised = changed(hello, [](proto::Greeting& g) {
    g.mutable_hello()->set_incarnation(kIncarnation + 1);
  });
  EXPECT_FALSE(again.receive(raised).refusal.has_value());
  EXPECT_EQ(again.receive(proof).refusal, Refusal::kProof);
}

TEST(HandshakeTest, AnAgentThatIsReplacedMeanwhileIsTooLate) {
  int incarnation = kIncarnation;
  LauncherHandshake launcher(
      secret(), "job", [&](int) { return std::optional(incarnation); },
      nonce('l'));
  AgentHandshake agent = make_agent();
  const HandshakeStep step =
      agent.receive(launcher.receive(agent.hello()).send);
  ++incarnation;
  EXPECT_EQ(launcher.receive(step.send).refusal, Refusal::kAgent);
}

TEST(HandshakeTest, NothingIsHeardAfterTheEnd) {
  AgentHandshake agent = make_agent();
  LauncherHandshake launcher = make_launcher();
  const std::string hello = agent.hello();
  const std::string proof = agent.receive(launcher.receive(hello).send).send;
  const std::string last = launcher.receive(proof).send;
  EXPECT_EQ(launcher.receive(proof).refusal, Refusal::kMalformed);
  EXPECT_TRUE(agent.receive(last).keys.has_value());
  EXPECT_EQ(agent.receive(last).refusal, Refusal::kMalformed);
  LauncherHandshake refused = make_launcher();
  EXPECT_EQ(refused.receive("nonsense").refusal, Refusal::kMalformed);
  EXPECT_EQ(refused.receive(hello).refusal, Refusal::kMalformed);
}

TEST(HandshakeTest, AnotherVersionIsTold) {
  AgentHandshake agent = make_agent();
  LauncherHandshake launcher = make_launcher();
  const HandshakeStep step =
      launcher.receive(changed(agent.hello(), [](proto::Greeting& g) {
        g.mutable_hello()->set_version(kProtocolVersion + 1);
      }));
  EXPECT_EQ(step.refusal, Refusal::kVersion);
  const std::string newer = changed(step.send, [](proto::Greeting& g) {
    g.mutable_challenge()->set_version(kProtocolVersion + 1);
  });
  EXPECT_EQ(agent.receive(newer).refusal, Refusal::kVersion);
  EXPECT_EQ(agent.version_seen(), kProtocolVersion + 1);
}

}  // namespace
}  // namespace catena::launcher::control
