#include "launcher/control/envelope.h"

#include <catena.pb.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "launcher/control/frame.h"
#include "runtime/base/error.h"

namespace catena::launcher::control {
namespace {

using ::testing::HasSubstr;

RankEnding an_ending() {
  return {.rank = 3,
          .process = 77,
          .code = 70,
          .signal = 9,
          .joined = true,
          .done = true,
          .lost = true,
          .stopped = true,
          .hung = true,
          .step = 12,
          .section = "step",
          .waits_for = 0,
          .waits_in = "barrier (control)",
          .silent_seconds = 31.5,
          .last_words = std::string("any \xff bytes\0", 12)};
}

control::Setup a_setup() {
  return {.program = "/bin/catena-train",
          .arguments = {"catena-train", "train", "x y.toml", ""},
          .environment = {"A=1", "B=\xff"},
          .token = "t",
          .run = "/run",
          .directory = "/home",
          .grace = std::chrono::milliseconds(30000),
          .section_timeout = std::chrono::milliseconds(90000),
          .console_rank = 0,
          .bind = Bind::kNuma,
          .share = {2, 4}};
}

MachineFacts some_facts() {
  return {.cores = 8,
          .memory_bytes = std::int64_t{1} << 40U,
          .free_memory_bytes = std::int64_t{1} << 39U,
          .free_disk_bytes = std::int64_t{1} << 50U,
          .write_seconds = 0.25,
          .disk_error = "cannot sync \xff",
          .program_hash = ~std::uint64_t{0},
          .file_hashes = {0, 1}};
}

TEST(EnvelopeTest, EveryMessageComesAsItWent) {
  const Message messages[] = {
      Heartbeat{},
      a_setup(),
      Command{1, OpenRendezvous{}},
      Command{2, StartGeneration{.world = 8,
                                 .ranks = {2, 3},
                                 .rendezvous = "h:1",
                                 .node = 1,
                                 .nodes = 4}},
      Command{2, StartGeneration{.world = 8, .ranks = {}, .rendezvous = ""}},
      Command{3, Stop{true}},
      Command{3, Stop{false}},
      Command{3, Save{}},
      Command{3, Inspect{}},
      Command{3, Ping{}},
      Report{0, 0, AgentReady{"host"}},
      Report{0, 1, RendezvousOpen{"[::1]:29500"}},
      Report{0, 1, RankStarted{5, 1234}},
      Report{0, 1, RankJoined{5}},
      Report{0, 1, RankStepped{5, std::int64_t{1} << 40}},
      Report{0, 1, RankExited{an_ending()}},
      Report{0, 1, GenerationEmpty{{an_ending(), RankEnding{}}}},
      Report{0, 1, GenerationEmpty{}},
      Report{0, 1, RankSuspected{5, RankSuspected::Verdict::kAsked, "text"}},
      Probe{1, ProbeClock{}},
      Probe{2, ProbeMachine{"/bin/x", "/run", {"x.toml", "a b\xff"}}},
      Probe{3, ProbeCompute{}},
      Probe{4, ProbeListen{"ticket"}},
      Probe{5, ProbeLink{"::1", 65535, "ticket"}},
      Probed{4, ListenFacts{"::1", 65535}},
      Probed{5, LinkFacts{0.001, 1e9}},
      Probed{1, ProbeFailed{"why"}},
      Probed{1, ClockFacts{1'700'000'000'000'000}},
      Probed{2, some_facts()},
      Probed{3, ComputeFacts{1e12}},
      Report{0, 1, launcher::Heartbeat{{5, 6}, {an_ending()}, 7, false}, 99}};
  EXPECT_EQ(std::get<Report>(read(write(messages[std::size(messages) - 1])))
                .incarnation,
            99U);
  for (const Message& message : messages) {
    const std::string bytes = write(message);
    const Message again = read(bytes);
    EXPECT_EQ(again.index(), message.index());
    EXPECT_EQ(write(again), bytes);
  }
  EXPECT_EQ(std::get<control::Setup>(read(write(a_setup()))), a_setup());
  const Message probed = read(write(Probed{2, some_facts()}));
  EXPECT_EQ(std::get<MachineFacts>(std::get<Probed>(probed).body),
            some_facts());
  const Message exited = read(write(Report{0, 1, RankExited{an_ending()}}));
  EXPECT_EQ(std::get<RankExited>(std::get<Report>(exited).body).ending,
            an_ending());
}

TEST(EnvelopeTest, AProbeOfTooManyFilesNamesTheFirst) {
  for (const std::size_t length : {1, 1000, 4096}) {
    ProbeMachine machine{"/bin/x", "/run", {}};
    machine.files.assign(5000, std::string(length, 'x'));
    const std::size_t count = files_compared(machine);
    const Message again = read(write(Probe{1, machine}));
    machine.files.resize(count);
    EXPECT_EQ(std::get<ProbeMachine>(std::get<Probe>(again).body).files,
              machine.files);
    EXPECT_GT(count, 0U);
  }
}

TEST(EnvelopeTest, LastWordsAreCutToTheFrame) {
  GenerationEmpty empty;
  for (int rank = 0; rank < 4096; ++rank) {
    empty.endings.push_back(
        {.rank = rank, .last_words = std::string(kMaxLastWords, 'x') + "end"});
  }
  const std::string bytes = write(Report{0, 1, empty});
  EXPECT_LE(bytes.size(), kMaxMessageBytes);
  const Message again = read(bytes);
  const auto& endings =
      std::get<GenerationEmpty>(std::get<Report>(again).body).endings;
  EXPECT_EQ(endings.size(), 4096U);
  EXPECT_THAT(endings.back().last_words, ::testing::EndsWith("xend"));
}

TEST(EnvelopeTest, ASetupThatFitsNoFrameIsRefused) {
  control::Setup setup = a_setup();
  setup.arguments.assign(9, std::string(kMaxTextBytes, 'x'));
  EXPECT_THROW(static_cast<void>(write(setup)), Error);
}

using Change = std::function<void(proto::Envelope&)>;

TEST(EnvelopeTest, WhatNobodyWouldWriteIsRefused) {
  struct Case {
    const char* words;
    Change change;
  };
  const auto ending = [](proto::Envelope& e) {
    return e.mutable_report()->mutable_rank_exited()->mutable_ending();
  };
  const Case cases[] = {
      {"body is of no known kind", [](proto::Envelope&) {}},
      {"command is of no known kind",
       [](proto::Envelope& e) { e.mutable_command(); }},
      {"report is of no known kind",
       [](proto::Envelope& e) { e.mutable_report(); }},
      {"generation is 4294967295",
       [](proto::Envelope& e) {
         e.mutable_command()->set_generation(0xffffffffU);
       }},
      {"rank is 65536",
       [](proto::Envelope& e) {
         e.mutable_report()->mutable_rank_joined()->set_rank(65536);
       }},
      {"rank is 2; 1 is the most",
       [](proto::Envelope& e) {
         auto* start = e.mutable_command()->mutable_start_generation();
         start->set_world(2);
         start->add_ranks(2);
       }},
      {"ranks are too many",
       [](proto::Envelope& e) {
         auto* start = e.mutable_command()->mutable_start_generation();
         start->set_world(1);
         start->add_ranks(0);
         start->add_ranks(0);
       }},
      {"world is 65537",
       [](proto::Envelope& e) {
         e.mutable_command()->mutable_start_generation()->set_world(65537);
       }},
      {"step is -1",
       [](proto::Envelope& e) {
         e.mutable_report()->mutable_rank_stepped()->set_step(-1);
       }},
      {"process is -1",
       [](proto::Envelope& e) {
         e.mutable_report()->mutable_rank_started()->set_process(-1);
       }},
      {"code is 256", [&](proto::Envelope& e) { ending(e)->set_code(256); }},
      {"signal is negative",
       [&](proto::Envelope& e) { ending(e)->set_signal(-1); }},
      {"last words has 8193 bytes",
       [&](proto::Envelope& e) {
         ending(e)->set_last_words(std::string(8193, 'x'));
       }},
      {"host has 321 bytes",
       [](proto::Envelope& e) {
         e.mutable_report()->mutable_agent_ready()->set_host(
             std::string(321, 'h'));
       }},
      {"endpoint has a null byte",
       [](proto::Envelope& e) {
         e.mutable_report()->mutable_rendezvous_open()->set_endpoint(
             std::string("a\0b", 3));
       }},
      {"arguments has a null byte",
       [](proto::Envelope& e) {
         e.mutable_setup()->add_arguments(std::string("a\0b", 3));
       }},
      {"bind is 3", [](proto::Envelope& e) { e.mutable_setup()->set_bind(3); }},
      {"share is 65537",
       [](proto::Envelope& e) { e.mutable_setup()->set_share_of(65537); }},
      {"environment are too many",
       [](proto::Envelope& e) {
         for (int i = 0; i <= kMaxTexts; ++i) {
           e.mutable_setup()->add_environment("A=1");
         }
       }},
      {"program has 4097 bytes",
       [](proto::Envelope& e) {
         e.mutable_setup()->set_program(std::string(4097, 'p'));
       }},
      {"grace period is",
       [](proto::Envelope& e) {
         e.mutable_setup()->set_grace_milliseconds(~std::uint64_t{0});
       }},
      {"silent seconds are -1",
       [&](proto::Envelope& e) { ending(e)->set_silent_seconds(-1); }},
      {"silent seconds are nan",
       [&](proto::Envelope& e) {
         ending(e)->set_silent_seconds(std::nan(""));
       }},
      {"awaited rank is 65537",
       [&](proto::Envelope& e) { ending(e)->set_waits_for(65537); }},
      {"verdict is 4",
       [](proto::Envelope& e) {
         e.mutable_report()->mutable_rank_suspected()->set_verdict(4);
       }},
      {"joined ranks are too many",
       [](proto::Envelope& e) {
         auto* standing = e.mutable_report()->mutable_standing();
         for (int i = 0; i <= kMaxRanks; ++i) standing->add_joined(0);
       }},
      {"probe of no known kind",
       [](proto::Envelope& e) { e.mutable_probe(); }},
      {"answer of no known kind",
       [](proto::Envelope& e) { e.mutable_probed(); }},
      {"cores is out of bounds",
       [](proto::Envelope& e) {
         e.mutable_probed()->mutable_machine()->set_cores(1U << 30U);
       }},
      {"run is out of bounds",
       [](proto::Envelope& e) {
         e.mutable_probe()->mutable_machine()->set_run(std::string("a\0b", 3));
       }},
      {"number of hashes is out of bounds",
       [](proto::Envelope& e) {
         auto* facts = e.mutable_probed()->mutable_machine();
         for (int i = 0; i <= kMaxTexts; ++i) facts->add_file_hashes(1);
       }},
      {"seconds is out of bounds",
       [](proto::Envelope& e) {
         e.mutable_probed()->mutable_machine()->set_write_seconds(
             std::nan(""));
       }},
      {"time is out of bounds",
       [](proto::Envelope& e) {
         e.mutable_probed()->mutable_clock()->set_microseconds(-1);
       }},
      {"port is out of bounds",
       [](proto::Envelope& e) {
         e.mutable_probe()->mutable_link()->set_port(65536);
       }},
      {"bandwidth is out of bounds",
       [](proto::Envelope& e) {
         e.mutable_probed()->mutable_link()->set_bytes_per_second(
             std::nan(""));
       }},
      {"speed is out of bounds",
       [](proto::Envelope& e) {
         e.mutable_probed()->mutable_compute()->set_flops(1e30);
       }},
      {"console rank is -2",
       [](proto::Envelope& e) { e.mutable_setup()->set_console_rank(-2); }}};
  for (const Case& each : cases) {
    proto::Envelope envelope;
    each.change(envelope);
    try {
      static_cast<void>(read(envelope.SerializeAsString()));
      ADD_FAILURE() << each.words;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kData);
      EXPECT_THAT(error.what(), HasSubstr(each.words));
    }
  }
}

TEST(EnvelopeTest, NoMessageIsRefusedAsOne) {
  const std::string whole = write(a_setup());
  for (const std::string& bytes :
       {std::string("\xff"), std::string("\x0a\x05"), whole + "\xff",
        whole.substr(0, whole.size() - 1)}) {
    EXPECT_THROW(static_cast<void>(read(bytes)), Error);
  }
}

}  // namespace
}  // namespace catena::launcher::control
