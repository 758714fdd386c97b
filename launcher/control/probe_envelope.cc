#include "launcher/control/probe_envelope.h"

#include <catena.pb.h>
#include <fmt/format.h>

#include <limits>

#include "launcher/control/envelope.h"
#include "runtime/base/error.h"

namespace catena::launcher::control {
namespace {

constexpr int kMostCores = 65536;

void check(bool holds, const char* field) {
  if (!holds) {
    fail(ErrorKind::kData, "[control] a probe whose {} is out of bounds",
         field);
  }
}

std::string take_path(const char* field, const std::string& text) {
  check(text.size() <= kMaxPathBytes && text.find('\0') == std::string::npos,
        field);
  return text;
}

ProbeMachine take(const proto::MachineProbe& from) {
  ProbeMachine machine{.program = take_path("program", from.program()),
                       .run = take_path("run", from.run())};
  check(from.files_size() <= kMaxTexts, "number of files");
  for (const std::string& file : from.files()) {
    machine.files.push_back(take_path("file", file));
  }
  return machine;
}

std::string take_name(const char* field, const std::string& text) {
  check(text.size() <= kMaxNameBytes && text.find('\0') == std::string::npos,
        field);
  return text;
}

std::uint16_t take_port(std::uint32_t port) {
  check(port <= std::numeric_limits<std::uint16_t>::max(), "port");
  return static_cast<std::uint16_t>(port);
}

LinkFacts take(const proto::LinkFacts& from) {
  constexpr double kMostSeconds = 1e9, kMostSpeed = 1e18;
  check(from.latency_seconds() >= 0 && from.latency_seconds() < kMostSeconds,
        "latency");
  check(from.bytes_per_second() >= 0 && from.bytes_per_second() < kMostSpeed,
        "bandwidth");
  return {from.latency_seconds(), from.bytes_per_second()};
}

void put(const MachineFacts& facts, proto::MachineFacts& to) {
  to.set_cores(static_cast<std::uint32_t>(facts.cores));
  to.set_memory_bytes(facts.memory_bytes);
  to.set_free_memory_bytes(facts.free_memory_bytes);
  to.set_free_disk_bytes(facts.free_disk_bytes);
  to.set_write_seconds(facts.write_seconds);
  to.set_disk_error(facts.disk_error.substr(0, kMaxLastWords));
  to.set_program_hash(facts.program_hash);
  for (const std::uint64_t hash : facts.file_hashes) to.add_file_hashes(hash);
}

MachineFacts take(const proto::MachineFacts& from) {
  constexpr double kMostSeconds = 1e9;
  check(from.cores() <= kMostCores, "cores");
  check(from.memory_bytes() >= 0 && from.free_memory_bytes() >= 0, "memory");
  check(from.free_disk_bytes() >= 0, "disk");
  // Not a number is refused, too.
  check(from.write_seconds() >= 0 && from.write_seconds() < kMostSeconds,
        "seconds");
  check(from.disk_error().size() <= kMaxLastWords, "error");
  check(from.file_hashes_size() <= kMaxTexts, "number of hashes");
  return {
      .cores = static_cast<int>(from.cores()),
      .memory_bytes = from.memory_bytes(),
      .free_memory_bytes = from.free_memory_bytes(),
      .free_disk_bytes = from.free_disk_bytes(),
      .write_seconds = from.write_seconds(),
      .disk_error = from.disk_error(),
      .program_hash = from.program_hash(),
      .file_hashes = {from.file_hashes().begin(), from.file_hashes().end()}};
}

}  // namespace

void put(const Probe& probe, proto::Probe& to) {
  to.set_number(probe.number);
  std::visit(Overloaded{[&](const ProbeClock&) { to.mutable_clock(); },
                        [&](const ProbeMachine& body) {
                          auto& machine = *to.mutable_machine();
                          machine.set_program(body.program);
                          machine.set_run(body.run);
                          const std::size_t count = files_compared(body);
                          for (std::size_t i = 0; i < count; ++i) {
                            machine.add_files(body.files[i]);
                          }
                        },
                        [&](const ProbeCompute&) { to.mutable_compute(); },
                        [&](const ProbeListen& body) {
                          to.mutable_listen()->set_ticket(body.ticket);
                        },
                        [&](const ProbeLink& body) {
                          auto& link = *to.mutable_link();
                          link.set_address(body.address);
                          link.set_port(body.port);
                          link.set_ticket(body.ticket);
                        }},
             probe.body);
}

void put(const Probed& probed, proto::Probed& to) {
  to.set_number(probed.number);
  std::visit(
      Overloaded{
          [&](const ProbeFailed& body) {
            to.mutable_failed()->set_why(body.why.substr(0, kMaxLastWords));
          },
          [&](const ClockFacts& body) {
            to.mutable_clock()->set_microseconds(body.microseconds);
          },
          [&](const MachineFacts& body) { put(body, *to.mutable_machine()); },
          [&](const ComputeFacts& body) {
            to.mutable_compute()->set_flops(body.flops);
          },
          [&](const ListenFacts& body) {
            to.mutable_listen()->set_address(body.address);
            to.mutable_listen()->set_port(body.port);
          },
          [&](const LinkFacts& body) {
            auto& link = *to.mutable_link();
            link.set_latency_seconds(body.latency_seconds);
            link.set_bytes_per_second(body.bytes_per_second);
          }},
      probed.body);
}

Probe take(const proto::Probe& from) {
  switch (from.body_case()) {
    case proto::Probe::kClock:
      return {from.number(), ProbeClock{}};
    case proto::Probe::kMachine:
      return {from.number(), take(from.machine())};
    case proto::Probe::kCompute:
      return {from.number(), ProbeCompute{}};
    case proto::Probe::kListen:
      return {from.number(),
              ProbeListen{take_name("ticket", from.listen().ticket())}};
    case proto::Probe::kLink:
      return {from.number(),
              ProbeLink{take_name("address", from.link().address()),
                        take_port(from.link().port()),
                        take_name("ticket", from.link().ticket())}};
    case proto::Probe::BODY_NOT_SET:
      break;
  }
  fail(ErrorKind::kData, "[control] a probe of no known kind");
}

Probed take(const proto::Probed& from) {
  constexpr double kMostFlops = 1e21;
  switch (from.body_case()) {
    case proto::Probed::kFailed:
      check(from.failed().why().size() <= kMaxLastWords, "reason");
      return {from.number(), ProbeFailed{from.failed().why()}};
    case proto::Probed::kClock:
      // Before the year 10000, so that it may be reckoned with.
      check(from.clock().microseconds() >= 0 &&
                from.clock().microseconds() < std::int64_t{1} << 58U,
            "time");
      return {from.number(), ClockFacts{from.clock().microseconds()}};
    case proto::Probed::kMachine:
      return {from.number(), take(from.machine())};
    case proto::Probed::kCompute:
      check(from.compute().flops() >= 0 && from.compute().flops() < kMostFlops,
            "speed");
      return {from.number(), ComputeFacts{from.compute().flops()}};
    case proto::Probed::kListen:
      return {from.number(),
              ListenFacts{take_name("address", from.listen().address()),
                          take_port(from.listen().port())}};
    case proto::Probed::kLink:
      return {from.number(), take(from.link())};
    case proto::Probed::BODY_NOT_SET:
      break;
  }
  fail(ErrorKind::kData, "[control] an answer of no known kind");
}

}  // namespace catena::launcher::control
