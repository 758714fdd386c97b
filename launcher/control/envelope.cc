#include "launcher/control/envelope.h"

#include <catena.pb.h>

#include <algorithm>
#include <limits>

#include "launcher/control/frame.h"
#include "launcher/control/parse.h"
#include "launcher/control/probe_envelope.h"
#include "runtime/base/error.h"

namespace catena::launcher::control {
namespace {

constexpr int kMaxGenerations = 1 << 30;
constexpr std::uint64_t kMaxMilliseconds = 400ULL * 24 * 3600 * 1000;
/// Left for all else in a report that carries last words.
constexpr std::size_t kRoomForOthers = std::size_t{1} << 18U;

// --- to bytes ----------------------------------------------------------------

void put(const RankEnding& ending, std::size_t most_words,
         proto::RankEnding& to) {
  to.set_rank(static_cast<std::uint32_t>(ending.rank));
  to.set_process(ending.process);
  to.set_code(ending.code);
  to.set_signal(ending.signal);
  to.set_joined(ending.joined);
  to.set_done(ending.done);
  to.set_lost(ending.lost);
  to.set_stopped(ending.stopped);
  to.set_step(ending.step);
  to.set_hung(ending.hung);
  to.set_section(ending.section.substr(0, kMaxNameBytes));
  to.set_waits_for(static_cast<std::uint32_t>(ending.waits_for + 1));
  to.set_waits_in(ending.waits_in.substr(0, kMaxNameBytes));
  to.set_silent_seconds(ending.silent_seconds);
  // The last of them say most.
  const std::string& words = ending.last_words;
  to.set_last_words(
      words.substr(words.size() - std::min(most_words, words.size())));
}

void put(const Setup& setup, proto::Setup& to) {
  to.set_program(setup.program);
  for (const auto& text : setup.arguments) to.add_arguments(text);
  for (const auto& text : setup.environment) to.add_environment(text);
  to.set_token(setup.token);
  to.set_run(setup.run);
  to.set_directory(setup.directory);
  to.set_grace_milliseconds(static_cast<std::uint64_t>(setup.grace.count()));
  to.set_section_timeout_milliseconds(
      static_cast<std::uint64_t>(setup.section_timeout.count()));
  to.set_console_rank(setup.console_rank);
  to.set_bind(static_cast<std::uint32_t>(setup.bind));
  to.set_share_first(static_cast<std::uint32_t>(setup.share.first));
  to.set_share_of(static_cast<std::uint32_t>(setup.share.of));
}

void put(const Command& command, proto::Command& to) {
  to.set_generation(static_cast<std::uint32_t>(command.generation));
  std::visit(
      Overloaded{[&](const OpenRendezvous&) { to.mutable_open_rendezvous(); },
                 [&](const StartGeneration& body) {
                   auto& start = *to.mutable_start_generation();
                   start.set_world(static_cast<std::uint32_t>(body.world));
                   for (const int rank : body.ranks) {
                     start.add_ranks(static_cast<std::uint32_t>(rank));
                   }
                   start.set_rendezvous(body.rendezvous);
                   start.set_node(static_cast<std::uint32_t>(body.node));
                   start.set_nodes(static_cast<std::uint32_t>(body.nodes));
                 },
                 [&](const Stop& body) {
                   to.mutable_stop()->set_at_once(body.at_once);
                 },
                 [&](const Save&) { to.mutable_save(); },
                 [&](const Inspect&) { to.mutable_inspect(); },
                 [&](const Ping&) { to.mutable_ping(); }},
      command.body);
}

class ReportWriter {
 public:
  explicit ReportWriter(proto::Report& to) : to_(to) {}

  void operator()(const AgentReady& body) {
    to_.mutable_agent_ready()->set_host(body.host.substr(0, kMaxNameBytes));
  }
  void operator()(const RendezvousOpen& body) {
    to_.mutable_rendezvous_open()->set_endpoint(body.endpoint);
  }
  void operator()(const RankStarted& body) {
    to_.mutable_rank_started()->set_rank(number(body.rank));
    to_.mutable_rank_started()->set_process(body.process);
  }
  void operator()(const RankJoined& body) {
    to_.mutable_rank_joined()->set_rank(number(body.rank));
  }
  void operator()(const RankStepped& body) {
    to_.mutable_rank_stepped()->set_rank(number(body.rank));
    to_.mutable_rank_stepped()->set_step(body.step);
  }
  void operator()(const RankSuspected& body) {
    auto& suspected = *to_.mutable_rank_suspected();
    suspected.set_rank(number(body.rank));
    suspected.set_verdict(static_cast<std::uint32_t>(body.verdict));
    suspected.set_text(body.text.substr(0, kMaxLastWords));
  }
  void operator()(const launcher::Heartbeat& body) {
    auto& standing = *to_.mutable_standing();
    for (const int rank : body.joined) standing.add_joined(number(rank));
    put_all(body.endings, standing);
    standing.set_step(body.step);
    standing.set_empty(body.empty);
  }
  void operator()(const RankExited& body) {
    put(body.ending, kMaxLastWords,
        *to_.mutable_rank_exited()->mutable_ending());
  }
  void operator()(const GenerationEmpty& body) {
    put_all(body.endings, *to_.mutable_generation_empty());
  }

 private:
  template <class To>
  static void put_all(const std::vector<RankEnding>& endings, To& to) {
    const std::size_t share = (kMaxMessageBytes - kRoomForOthers) /
                              std::max<std::size_t>(1, endings.size());
    for (const RankEnding& ending : endings) {
      put(ending, std::min(kMaxLastWords, share), *to.add_endings());
    }
  }
  static std::uint32_t number(int rank) {
    return static_cast<std::uint32_t>(rank);
  }
  proto::Report& to_;
};

// --- from bytes --------------------------------------------------------------

[[noreturn]] void refuse(const char* field, std::string_view why) {
  fail(ErrorKind::kData, "[control] a message whose {} {}", field, why);
}

int take(const char* field, std::uint64_t number, int most) {
  if (number > static_cast<std::uint64_t>(most)) {
    refuse(field, fmt::format("is {}; {} is the most", number, most));
  }
  return static_cast<int>(number);
}

int take_rank(std::uint32_t rank) { return take("rank", rank, kMaxRanks - 1); }

std::int64_t take_step(std::int64_t step) {
  if (step < 0) refuse("step", fmt::format("is {}", step));
  return step;
}

int take_process(std::int32_t process) {
  if (process < 0) refuse("process", fmt::format("is {}", process));
  return process;
}

std::string take(const char* field, const std::string& text, std::size_t most) {
  if (text.size() > most) {
    refuse(field,
           fmt::format("has {} bytes; {} are the most", text.size(), most));
  }
  return text;
}

/// What goes to the system as a name or a path, which ends at a null byte.
std::string take_words(const char* field, const std::string& text,
                       std::size_t most) {
  if (text.find('\0') != std::string::npos) refuse(field, "has a null byte");
  return take(field, text, most);
}

std::chrono::milliseconds take_time(const char* field, std::uint64_t count) {
  if (count > kMaxMilliseconds) {
    refuse(field, fmt::format("is {} milliseconds", count));
  }
  return std::chrono::milliseconds(count);
}

template <class Texts>
std::vector<std::string> take_texts(const char* field, const Texts& texts) {
  if (texts.size() > kMaxTexts) refuse(field, "are too many");
  std::vector<std::string> result;
  for (const std::string& text : texts) {
    result.push_back(take_words(field, text, kMaxTextBytes));
  }
  return result;
}

double take_seconds(double seconds) {
  // Not a number is refused, too.
  if (!(seconds >= 0 && seconds < 1e9)) {
    refuse("silent seconds", fmt::format("are {}", seconds));
  }
  return seconds;
}

RankEnding take(const proto::RankEnding& from) {
  constexpr int kMostCode = 255, kMostSignal = 64;
  if (from.code() < 0) refuse("code", "is negative");
  if (from.signal() < 0) refuse("signal", "is negative");
  return {
      .rank = take_rank(from.rank()),
      .process = take_process(from.process()),
      .code = take("code", static_cast<std::uint64_t>(from.code()), kMostCode),
      .signal = take("signal", static_cast<std::uint64_t>(from.signal()),
                     kMostSignal),
      .joined = from.joined(),
      .done = from.done(),
      .lost = from.lost(),
      .stopped = from.stopped(),
      .hung = from.hung(),
      .step = take_step(from.step()),
      .section = take("section", from.section(), kMaxNameBytes),
      .waits_for = take("awaited rank", from.waits_for(), kMaxRanks) - 1,
      .waits_in = take("awaited exchange", from.waits_in(), kMaxNameBytes),
      .silent_seconds = take_seconds(from.silent_seconds()),
      .last_words = take("last words", from.last_words(), kMaxLastWords)};
}

Setup take(const proto::Setup& from) {
  constexpr int kNobody = -1;
  if (from.console_rank() < kNobody || from.console_rank() >= kMaxRanks) {
    refuse("console rank", fmt::format("is {}", from.console_rank()));
  }
  constexpr int kMostBind = static_cast<int>(Bind::kNuma);
  return {.program = take_words("program", from.program(), kMaxPathBytes),
          .arguments = take_texts("arguments", from.arguments()),
          .environment = take_texts("environment", from.environment()),
          .token = take_words("token", from.token(), kMaxNameBytes),
          .run = take_words("run", from.run(), kMaxPathBytes),
          .directory = take_words("directory", from.directory(), kMaxPathBytes),
          .grace = take_time("grace period", from.grace_milliseconds()),
          .section_timeout =
              take_time("section timeout", from.section_timeout_milliseconds()),
          .console_rank = from.console_rank(),
          .bind = static_cast<Bind>(take("bind", from.bind(), kMostBind)),
          .share = {take("share", from.share_first(), kMaxRanks),
                    take("share", from.share_of(), kMaxRanks)}};
}

StartGeneration take(const proto::StartGeneration& from) {
  StartGeneration start{
      .world = take("world", from.world(), kMaxRanks),
      .rendezvous = take_words("rendezvous", from.rendezvous(), kMaxNameBytes),
      .node = take("node", from.node(), kMaxRanks - 1),
      .nodes = take("nodes", from.nodes(), kMaxRanks)};
  if (from.ranks_size() > start.world) refuse("ranks", "are too many");
  for (const std::uint32_t rank : from.ranks()) {
    start.ranks.push_back(take("rank", rank, start.world - 1));
  }
  return start;
}

Command take(const proto::Command& from) {
  const int generation = take("generation", from.generation(), kMaxGenerations);
  switch (from.body_case()) {
    case proto::Command::kOpenRendezvous:
      return {generation, OpenRendezvous{}};
    case proto::Command::kStartGeneration:
      return {generation, take(from.start_generation())};
    case proto::Command::kStop:
      return {generation, Stop{from.stop().at_once()}};
    case proto::Command::kSave:
      return {generation, Save{}};
    case proto::Command::kInspect:
      return {generation, Inspect{}};
    case proto::Command::kPing:
      return {generation, Ping{}};
    case proto::Command::BODY_NOT_SET:
      break;
  }
  refuse("command", "is of no known kind");
}

template <class From>
std::vector<RankEnding> take_endings(const From& from) {
  if (from.endings_size() > kMaxRanks) refuse("endings", "are too many");
  std::vector<RankEnding> endings;
  for (const auto& ending : from.endings()) endings.push_back(take(ending));
  return endings;
}

launcher::Heartbeat take(const proto::Standing& from) {
  if (from.joined_size() > kMaxRanks) refuse("joined ranks", "are too many");
  launcher::Heartbeat standing{.endings = take_endings(from),
                               .step = take_step(from.step()),
                               .empty = from.empty()};
  for (const std::uint32_t rank : from.joined()) {
    standing.joined.push_back(take_rank(rank));
  }
  return standing;
}

RankSuspected take(const proto::RankSuspected& from) {
  using Verdict = RankSuspected::Verdict;
  const int verdict =
      take("verdict", from.verdict(), static_cast<int>(Verdict::kAsked));
  return {take_rank(from.rank()), static_cast<Verdict>(verdict),
          take("text", from.text(), kMaxLastWords)};
}

decltype(Report::body) take_body(const proto::Report& from) {
  switch (from.body_case()) {
    case proto::Report::kAgentReady:
      return AgentReady{
          take_words("host", from.agent_ready().host(), kMaxNameBytes)};
    case proto::Report::kStanding:
      return take(from.standing());
    case proto::Report::kRendezvousOpen:
      return RendezvousOpen{take_words(
          "endpoint", from.rendezvous_open().endpoint(), kMaxNameBytes)};
    case proto::Report::kRankStarted:
      return RankStarted{take_rank(from.rank_started().rank()),
                         take_process(from.rank_started().process())};
    case proto::Report::kRankJoined:
      return RankJoined{take_rank(from.rank_joined().rank())};
    case proto::Report::kRankStepped:
      return RankStepped{take_rank(from.rank_stepped().rank()),
                         take_step(from.rank_stepped().step())};
    case proto::Report::kRankSuspected:
      return take(from.rank_suspected());
    case proto::Report::kRankExited:
      return RankExited{take(from.rank_exited().ending())};
    case proto::Report::kGenerationEmpty:
      return GenerationEmpty{take_endings(from.generation_empty())};
    case proto::Report::BODY_NOT_SET:
      break;
  }
  refuse("report", "is of no known kind");
}

Report take(const proto::Report& from) {
  return {0, take("generation", from.generation(), kMaxGenerations),
          take_body(from), from.incarnation()};
}

}  // namespace

std::string write(const Message& message) {
  proto::Envelope envelope;
  std::visit(
      Overloaded{
          [&](const Heartbeat&) { envelope.mutable_heartbeat(); },
          [&](const Setup& setup) { put(setup, *envelope.mutable_setup()); },
          [&](const Command& c) { put(c, *envelope.mutable_command()); },
          [&](const Report& report) {
            proto::Report& to = *envelope.mutable_report();
            to.set_generation(static_cast<std::uint32_t>(report.generation));
            to.set_incarnation(report.incarnation);
            std::visit(ReportWriter(to), report.body);
          },
          [&](const Probe& probe) { put(probe, *envelope.mutable_probe()); },
          [&](const Probed& p) { put(p, *envelope.mutable_probed()); }},
      message);
  std::string bytes = envelope.SerializeAsString();
  CATENA_CHECK(bytes.size() <= kMaxMessageBytes,
               "[control] a message of {} bytes; {} are the most", bytes.size(),
               kMaxMessageBytes);
  return bytes;
}

Message read(std::string_view bytes) {
  proto::Envelope envelope;
  if (!parse(bytes, envelope)) {
    fail(ErrorKind::kData, "[control] {} bytes that are no message",
         bytes.size());
  }
  switch (envelope.body_case()) {
    case proto::Envelope::kHeartbeat:
      return Heartbeat{};
    case proto::Envelope::kSetup:
      return take(envelope.setup());
    case proto::Envelope::kCommand:
      return take(envelope.command());
    case proto::Envelope::kReport:
      return take(envelope.report());
    case proto::Envelope::kProbe:
      return take(envelope.probe());
    case proto::Envelope::kProbed:
      return take(envelope.probed());
    case proto::Envelope::BODY_NOT_SET:
      break;
  }
  refuse("body", "is of no known kind");
}

}  // namespace catena::launcher::control
