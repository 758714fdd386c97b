#include "bench/simulated_job.h"

#include <fmt/format.h>

#include <csignal>
#include <utility>

#include "launcher/contract.h"
#include "launcher/job_layout.h"
#include "runtime/base/error.h"

namespace catena::bench {

using namespace launcher;
using control::HandshakeStep;
using control::kMaxGreetingBytes;
using control::Message;
using control::Secret;

namespace {

constexpr int kIncarnation = 1;

Secret secret() { return Secret(std::string(64, 's')); }

/// As long as those of a real job are.
control::Setup setup() {
  control::Setup result{.program = "/opt/catena/bin/catena-train",
                        .token = std::string(64, 't'),
                        .run = "/scratch/runs/large",
                        .directory = "/scratch"};
  for (int i = 0; i < 12; ++i) {
    result.arguments.push_back(fmt::format("--set=train.key{}=value", i));
    result.environment.push_back(fmt::format("CATENA_NAME_{}=value", i));
  }
  return result;
}

}  // namespace

void WireEnd::say(const Message& message) {
  said_ += sealer_.value().seal(control::write(message));
}

void WireEnd::greet(const std::string& content) {
  said_ += control::frame(content, kMaxGreetingBytes);
}

void WireEnd::seal(const Secret& send_key, const Secret& receive_key) {
  sealer_.emplace(send_key);
  opener_.emplace(receive_key);
  reader_.allow(control::kMaxSealedBytes);
}

// --- an agent ----------------------------------------------------------------

SimulatedAgent::SimulatedAgent(int agent, ContactRules contact)
    : state_(agent, std::chrono::seconds(30), {}, contact),
      handshake_(secret(), {"job", agent, kIncarnation},
                 control::random_nonce()) {
  state_.incarnation = kIncarnation;
}

void SimulatedAgent::connect() { wire_.greet(handshake_.hello()); }

void SimulatedAgent::receive(std::string_view bytes, Time now) {
  wire_.receive(
      bytes, [this](const std::string& content) { greeted(content); },
      [this, now](const Message& message) { heard(message, now); });
}

void SimulatedAgent::greeted(const std::string& content) {
  const HandshakeStep step = handshake_.receive(content);
  CATENA_CHECK(!step.refusal, "an agent refuses its launcher");
  if (step.keys) {
    wire_.seal(step.keys->to_launcher, step.keys->to_agent);
  } else {
    wire_.greet(step.send);
  }
}

void SimulatedAgent::heard(const Message& message, Time now) {
  if (std::holds_alternative<control::Setup>(message)) {
    begin(state_, now);
    beat_at_ = now;
    wire_.say(Report{state_.agent, 0,
                     AgentReady{fmt::format("node{:04}", state_.agent)},
                     state_.incarnation});
  } else if (const auto* command = std::get_if<Command>(&message)) {
    act(launcher::receive(state_, *command, now), now);
  }
}

void SimulatedAgent::act(const AgentActions& actions, Time now) {
  for (const AgentAction& action : actions) {
    if (const auto* report = std::get_if<Report>(&action)) {
      wire_.say(*report);
    } else if (const auto* open = std::get_if<OpenListener>(&action)) {
      act(listener_opened(state_, open->generation, "node0000:40000"), now);
    } else if (const auto* spawn = std::get_if<SpawnRank>(&action)) {
      started_.insert(spawn->rank);
      act(rank_spawned(state_, spawn->rank, 1000 + spawn->rank, now), now);
    } else if (const auto* signal = std::get_if<SignalRank>(&action)) {
      ending_.insert(signal->rank);
    }
  }
}

void SimulatedAgent::live(Time now) {
  for (const int rank : std::exchange(started_, {})) {
    act(rank_said(state_, state_.generation, rank, kSaidJoined, now), now);
  }
  for (const int rank : std::exchange(ending_, {})) {
    act(rank_reaped(state_, state_.generation, rank, 0, SIGTERM, ""), now);
  }
}

void SimulatedAgent::tick(Time now) {
  act(launcher::tick(state_, now), now);
  if (!beat_at_ || now < *beat_at_) return;
  beat_at_ = now + state_.contact.heartbeat;
  wire_.say(control::Heartbeat{});
}

void SimulatedAgent::step(std::int64_t step, Time now) {
  const std::string line = fmt::format("{}{}", kSaidStep, step);
  for (const auto& [rank, unused] : std::map(state_.ranks)) {
    act(rank_said(state_, state_.generation, rank, line, now), now);
  }
}

void SimulatedAgent::kill_rank(Time now) {
  const int rank = state_.ranks.begin()->first;
  act(rank_reaped(state_, state_.generation, rank, 0, SIGKILL, "killed"), now);
}

// --- the launcher ------------------------------------------------------------

SimulatedLauncher::SimulatedLauncher(JobOptions options, Time now)
    : job_(std::move(options)) {
  const int agents = agent_count(job_);
  for (int agent = 0; agent < agents; ++agent) {
    const auto expected = [this](int asked) {
      return peers_[static_cast<std::size_t>(asked)].connected
                 ? std::nullopt
                 : std::optional(kIncarnation);
    };
    peers_.push_back({control::LauncherHandshake(secret(), "job", expected,
                                                 control::random_nonce())});
  }
  act(begin(job_, now));
}

void SimulatedLauncher::receive(int agent, std::string_view bytes, Time now) {
  peers_[static_cast<std::size_t>(agent)].wire.receive(
      bytes,
      [this, agent](const std::string& content) { greeted(agent, content); },
      [this, agent, now](const Message& message) {
        ++heard_;
        const auto* said = std::get_if<Report>(&message);
        if (said == nullptr) return;
        Report report = *said;
        report.agent = agent;
        report.incarnation = kIncarnation;
        act(launcher::receive(job_, report, now));
      });
}

void SimulatedLauncher::greeted(int agent, const std::string& content) {
  Peer& peer = peers_[static_cast<std::size_t>(agent)];
  const HandshakeStep step = peer.handshake.receive(content);
  CATENA_CHECK(!step.refusal, "the launcher refuses agent {}", agent);
  peer.wire.greet(step.send);
  if (!step.keys) return;
  peer.wire.seal(step.keys->to_agent, step.keys->to_launcher);
  peer.connected = true;
  say(agent, setup());
}

void SimulatedLauncher::say(int agent, const Message& message) {
  Peer& peer = peers_[static_cast<std::size_t>(agent)];
  if (!peer.connected) return;
  ++said_;
  peer.wire.say(message);
}

void SimulatedLauncher::act(const JobActions& actions) {
  for (const JobAction& action : actions) {
    if (const auto* send = std::get_if<SendCommand>(&action)) {
      say(send->agent, send->command);
    }
  }
}

void SimulatedLauncher::tick(Time now) {
  for (auto at = next_deadline(job_); at && *at <= now;
       at = next_deadline(job_)) {
    act(launcher::tick(job_, now));
  }
  if (beat_at_ && now < *beat_at_) return;
  beat_at_ = now + job_.options.contact.heartbeat;
  for (int agent = 0; agent < static_cast<int>(peers_.size()); ++agent) {
    say(agent, control::Heartbeat{});
  }
}

std::string SimulatedLauncher::take_said(int agent) {
  return peers_[static_cast<std::size_t>(agent)].wire.take_said();
}

}  // namespace catena::bench
