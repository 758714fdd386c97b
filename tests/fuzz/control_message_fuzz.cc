// Any bytes as a message between launcher and agent: it is refused with
// Error(kData), or holds no more of anything than envelope.h allows, and says
// the same when it is written and read again.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "launcher/control/envelope.h"
#include "launcher/control/frame.h"
#include "runtime/base/error.h"

namespace {

using namespace catena::launcher;
using namespace catena::launcher::control;

void expect(bool holds) {
  if (!holds) std::abort();
}

void expect_rank(int rank, int most = kMaxRanks) {
  expect(rank >= 0 && rank < most);
}

void expect_texts(const std::vector<std::string>& texts) {
  expect(texts.size() <= kMaxTexts);
  for (const std::string& text : texts) {
    expect(text.size() <= kMaxTextBytes);
    expect(text.find('\0') == std::string::npos);
  }
}

void expect_endings(const std::vector<RankEnding>& endings) {
  expect(endings.size() <= static_cast<std::size_t>(kMaxRanks));
  for (const RankEnding& ending : endings) {
    expect_rank(ending.rank);
    expect(ending.code >= 0 && ending.signal >= 0 && ending.process >= 0);
    expect(ending.step >= 0 && ending.silent_seconds >= 0);
    expect(ending.waits_for >= -1 && ending.waits_for < kMaxRanks);
    expect(ending.section.size() <= kMaxNameBytes);
    expect(ending.last_words.size() <= kMaxLastWords);
  }
}

void check(const control::Heartbeat&) {}

void check(const Setup& setup) {
  expect_texts(setup.arguments);
  expect_texts(setup.environment);
  for (const std::string& path : {setup.program, setup.run, setup.directory}) {
    expect(path.size() <= kMaxPathBytes);
    expect(path.find('\0') == std::string::npos);
  }
  expect(setup.token.size() <= kMaxNameBytes);
  expect(setup.grace.count() >= 0 && setup.section_timeout.count() >= 0);
  expect(setup.console_rank >= -1 && setup.console_rank < kMaxRanks);
}

void check(const Command& command) {
  expect(command.generation >= 0);
  const auto* start = std::get_if<StartGeneration>(&command.body);
  if (start == nullptr) return;
  expect(start->world >= 0 && start->world <= kMaxRanks);
  expect(start->ranks.size() <= static_cast<std::size_t>(start->world));
  expect(start->rendezvous.size() <= kMaxNameBytes);
  for (const int rank : start->ranks) expect_rank(rank, start->world);
}

/// Those of a report's bodies that have lists, numbers or texts.
struct ReportCheck {
  void operator()(const AgentReady& body) const {
    expect(body.host.size() <= kMaxNameBytes);
  }
  void operator()(const catena::launcher::Heartbeat& body) const {
    expect(body.joined.size() <= static_cast<std::size_t>(kMaxRanks));
    for (const int rank : body.joined) expect_rank(rank);
    expect(body.step >= 0);
    expect_endings(body.endings);
  }
  void operator()(const RendezvousOpen& body) const {
    expect(body.endpoint.size() <= kMaxNameBytes);
  }
  void operator()(const RankStarted& body) const {
    expect_rank(body.rank);
    expect(body.process >= 0);
  }
  void operator()(const RankJoined& body) const { expect_rank(body.rank); }
  void operator()(const RankStepped& body) const {
    expect_rank(body.rank);
    expect(body.step >= 0);
  }
  void operator()(const RankSuspected& body) const {
    expect_rank(body.rank);
    expect(body.verdict <= RankSuspected::Verdict::kAsked);
    expect(body.text.size() <= kMaxLastWords);
  }
  void operator()(const RankExited& body) const {
    expect_endings({body.ending});
  }
  void operator()(const GenerationEmpty& body) const {
    expect_endings(body.endings);
  }
};

void check(const Probe& probe) {
  if (const auto* link = std::get_if<ProbeLink>(&probe.body)) {
    expect(link->address.size() <= kMaxNameBytes);
    expect(link->ticket.size() <= kMaxNameBytes);
  } else if (const auto* machine = std::get_if<ProbeMachine>(&probe.body)) {
    expect_texts(machine->files);
    for (const std::string& path : {machine->program, machine->run}) {
      expect(path.size() <= kMaxPathBytes);
      expect(path.find('\0') == std::string::npos);
    }
  }
}

void check(const Probed& probed) {
  if (const auto* failed = std::get_if<ProbeFailed>(&probed.body)) {
    expect(failed->why.size() <= kMaxLastWords);
  } else if (const auto* clock = std::get_if<ClockFacts>(&probed.body)) {
    expect(clock->microseconds >= 0);
  } else if (const auto* compute = std::get_if<ComputeFacts>(&probed.body)) {
    expect(compute->flops >= 0 && compute->flops < 1e21);
  } else if (const auto* link = std::get_if<LinkFacts>(&probed.body)) {
    expect(link->latency_seconds >= 0 && link->bytes_per_second >= 0);
  } else if (const auto* facts = std::get_if<MachineFacts>(&probed.body)) {
    expect(facts->cores >= 0 && facts->free_disk_bytes >= 0);
    expect(facts->memory_bytes >= 0 && facts->free_memory_bytes >= 0);
    expect(facts->write_seconds >= 0 && facts->write_seconds < 1e9);
    expect(facts->disk_error.size() <= kMaxLastWords);
    expect(facts->file_hashes.size() <= std::size_t{kMaxTexts});
  }
}

void check(const Report& report) {
  expect(report.agent == 0 && report.generation >= 0);
  std::visit(ReportCheck(), report.body);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data,
                                      std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  try {
    const Message message = read(bytes);
    std::visit([](const auto& each) { check(each); }, message);
    const std::string written = write(message);
    expect(written.size() <= kMaxMessageBytes);
    expect(write(read(written)) == written);
  } catch (const catena::Error& error) {
    expect(error.kind() == catena::ErrorKind::kData);
  }
  return 0;
}
