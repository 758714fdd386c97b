#include "launcher/preflight/judgement.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "launcher/contract.h"
#include "launcher/preflight/machine_choice.h"

namespace catena::launcher {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr std::int64_t kGibibyte = std::int64_t{1} << 30U;
constexpr int kSizes[] = {1, 2, 3, 4, 7, 8};

MachineFacts a_machine() {
  return {.cores = 8,
          .memory_bytes = 32 * kGibibyte,
          .free_memory_bytes = 24 * kGibibyte,
          .free_disk_bytes = 100 * kGibibyte,
          .write_seconds = 0.01,
          .program_hash = 7,
          .file_hashes = {8, 9}};
}

JobNeeds some_needs() {
  return {.rank_bytes = kGibibyte,
          .disk_bytes = 10 * kGibibyte,
          .program = "/bin/catena-train",
          .files = {"x.toml", "train.jsonl"}};
}

/// Alike but for a tenth of noise in what is measured.
std::vector<NodeFacts> nodes_of(int count, unsigned seed = 1) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<double> noise(0.95, 1.05);
  std::vector<NodeFacts> nodes;
  for (int i = 0; i < count; ++i) {
    NodeFacts node{.host = fmt::format("node{}", i),
                   .ranks = 4,
                   .clock_ahead_seconds = 0.001 * i,
                   .round_trip_seconds = 0.001,
                   .machine = a_machine(),
                   .flops = 2e11 * noise(random),
                   .silent = ""};
    node.machine->write_seconds *= noise(random);
    nodes.push_back(node);
  }
  return nodes;
}

std::vector<Finding> judge_them(const std::vector<NodeFacts>& nodes) {
  const MachineFacts here = a_machine();
  return judge(nodes, {}, some_needs(), &here);
}

Chosen choose_them(const std::vector<NodeFacts>& nodes, Wanted wanted) {
  const std::vector<bool> there(nodes.size(), true);
  return choose(nodes, there, judge_them(nodes), wanted);
}

TEST(JudgementTest, NothingIsWrongWithMachinesThatAreAlike) {
  for (const int count : kSizes) {
    for (unsigned seed = 0; seed < 200; ++seed) {
      EXPECT_THAT(judge_them(nodes_of(count, seed)), IsEmpty()) << count;
    }
    const Chosen chosen =
        choose_them(nodes_of(count),
                    {.machines = count, .least = count, .exclude_slow = true});
    EXPECT_EQ(chosen.code, 0);
    EXPECT_EQ(chosen.nodes.size(), static_cast<std::size_t>(count));
  }
}

TEST(JudgementTest, ASlowMachineIsNamedWithTheMedian) {
  for (const int count : kSizes) {
    for (int slow = 0; slow < count; ++slow) {
      SCOPED_TRACE(fmt::format("{} of {}", slow, count));
      auto nodes = nodes_of(count);
      nodes[static_cast<std::size_t>(slow)].flops = 8e10;
      const auto findings = judge_them(nodes);
      if (count == 1) {
        EXPECT_THAT(findings, IsEmpty());
        continue;
      }
      ASSERT_EQ(findings.size(), 1U);
      EXPECT_EQ(findings[0].node, slow);
      EXPECT_EQ(findings[0].severity, Severity::kSlow);
      EXPECT_EQ(findings[0].probe, "compute");
      EXPECT_THAT(findings[0].text,
                  HasSubstr("80 GFLOP/s, and the median of the others is"));
      EXPECT_EQ(findings[0].figure, 8e10);
      EXPECT_GT(*findings[0].median, 1.8e11);
    }
  }
}

TEST(JudgementTest, SeveralSlowOnesDoNotHideEachOther) {
  for (const int count : {3, 4, 7, 8}) {
    auto nodes = nodes_of(count);
    const int slow = (count - 1) / 2;
    for (int i = 0; i < slow; ++i) {
      nodes[static_cast<std::size_t>(i)].flops = 2e10;
    }
    const auto findings = judge_them(nodes);
    ASSERT_EQ(findings.size(), static_cast<std::size_t>(slow)) << count;
    for (int i = 0; i < slow; ++i) {
      EXPECT_EQ(findings[static_cast<std::size_t>(i)].node, i);
    }
  }
}

TEST(JudgementTest, OneAmongMachinesOfManySpeedsIsNoOutlier) {
  const std::vector<double> mixed = {10, 7, 4, 12, 6};
  for (std::size_t i = 0; i < mixed.size(); ++i) {
    EXPECT_FALSE(lags(mixed, i, 0.75)) << i;
  }
  EXPECT_TRUE(lags(std::vector<double>{10, 10.2, 7, 9.9, 10.1}, 2, 0.75));
  EXPECT_FALSE(lags(std::vector<double>{10, 10.2, 9, 9.9, 10.1}, 2, 0.75));
  EXPECT_FALSE(lags(std::vector<double>{10}, 0, 0.75));
  EXPECT_FALSE(lags(std::vector<double>{10, 20, 30}, 2, 0.75));
  EXPECT_EQ(median({3, 1, 2}), 2);
  EXPECT_EQ(median({4, 1, 2, 3}), 2.5);
  EXPECT_EQ(median({}), 0);
}

struct BadCase {
  const char* probe;
  Severity severity;
  int code;
  const char* words;
  void (*change)(NodeFacts&);
};

const BadCase kBadCases[] = {
    {"disk", Severity::kBad, kExitStorage, "cannot write",
     [](NodeFacts& n) { n.machine->disk_error = "cannot write /run/x"; }},
    {"disk", Severity::kBad, kExitStorage, "5 GiB are free",
     [](NodeFacts& n) { n.machine->free_disk_bytes = 5 * kGibibyte; }},
    {"memory", Severity::kBad, kExitDoesNotFit, "4 ranks need 4 GiB of memory",
     [](NodeFacts& n) { n.machine->memory_bytes = 3 * kGibibyte; }},
    {"memory", Severity::kNoted, 0, "3 GiB of 32 GiB are free",
     [](NodeFacts& n) { n.machine->free_memory_bytes = 3 * kGibibyte; }},
    {"cores", Severity::kNoted, 0, "4 ranks share 2 cores",
     [](NodeFacts& n) { n.machine->cores = 2; }},
    {"program", Severity::kBad, kExitNotExecutable,
     "/bin/catena-train is another file than elsewhere (000000000000000a, not "
     "0000000000000007)",
     [](NodeFacts& n) { n.machine->program_hash = 10; }},
    {"data", Severity::kBad, kExitConfig, "train.jsonl is another file",
     [](NodeFacts& n) { n.machine->file_hashes[1] = 10; }},
    {"data", Severity::kBad, kExitConfig, "x.toml cannot be read there",
     [](NodeFacts& n) { n.machine->file_hashes[0] = 0; }},
    {"answer", Severity::kSlow, 0, "did not answer",
     [](NodeFacts& n) {
       n.silent = "it did not answer the machine probe in 30 s";
       n.late = true;
       n.machine.reset();
       n.flops.reset();
     }},
    {"answer", Severity::kBad, kExitNotAssembled, "probe failed",
     [](NodeFacts& n) {
       n.silent = "its machine probe failed: it has no cores";
       n.machine.reset();
       n.flops.reset();
     }},
    {"clock", Severity::kNoted, 0, "3.6 s behind",
     [](NodeFacts& n) { n.clock_ahead_seconds = -3.6; }},
    {"write", Severity::kNoted, 0,
     "2 MiB/s to the disk, and the median of the others is",
     [](NodeFacts& n) { n.machine->write_seconds = 0.5; }}};

TEST(JudgementTest, WhatIsWrongWithOneIsSaidOfIt) {
  for (const BadCase& each : kBadCases) {
    for (const int count : kSizes) {
      for (int bad = 0; bad < count; ++bad) {
        SCOPED_TRACE(fmt::format("{}: {} of {}", each.words, bad, count));
        auto nodes = nodes_of(count);
        each.change(nodes[static_cast<std::size_t>(bad)]);
        const auto findings = judge_them(nodes);
        if (count == 1 && each.probe == std::string("write")) continue;
        ASSERT_EQ(findings.size(), 1U);
        EXPECT_EQ(findings[0].node, bad);
        EXPECT_EQ(findings[0].severity, each.severity);
        EXPECT_EQ(findings[0].probe, each.probe);
        EXPECT_EQ(findings[0].code, each.code);
        EXPECT_THAT(findings[0].text, HasSubstr(each.words));
        const Chosen chosen =
            choose_them(nodes, {.machines = count, .least = count});
        EXPECT_EQ(chosen.code, each.code);
        if (each.code != 0) {
          EXPECT_THAT(chosen.why,
                      HasSubstr(fmt::format("{0} (node{0}) is bad", bad)));
        }
      }
    }
  }
}

/// All pairs, alike but for a tenth.
std::vector<LinkFound> links_of(int count, unsigned seed = 1) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<double> noise(0.95, 1.05);
  std::vector<LinkFound> links;
  for (int i = 0; i < count; ++i) {
    for (int j = 0; j < i; ++j) {
      links.push_back({.from = i,
                       .to = j,
                       .facts = {2e-4 * noise(random), 1e9 * noise(random)}});
    }
  }
  return links;
}

TEST(JudgementTest, AMachineOfSlowLinksIsNamedAndNotItsPartners) {
  for (const int count : kSizes) {
    for (int slow = 0; slow < count; ++slow) {
      SCOPED_TRACE(fmt::format("{} of {}", slow, count));
      auto links = links_of(count);
      EXPECT_THAT(judge(nodes_of(count), links, {}, nullptr), IsEmpty());
      for (LinkFound& link : links) {
        if (link.from != slow && link.to != slow) continue;
        link.facts = {.latency_seconds = 0.1, .bytes_per_second = 1e7};
      }
      const auto findings = judge(nodes_of(count), links, {}, nullptr);
      // Of two nobody knows whose fault it is.
      if (count < 3) {
        EXPECT_THAT(findings, IsEmpty());
        continue;
      }
      ASSERT_EQ(findings.size(), 2U);
      EXPECT_EQ(findings[0].node, slow);
      EXPECT_EQ(findings[0].severity, Severity::kSlow);
      EXPECT_THAT(findings[0].text,
                  HasSubstr("80 Mbit/s to others, and the median of the"));
      EXPECT_EQ(findings[1].node, slow);
      EXPECT_EQ(findings[1].severity, Severity::kNoted);
      EXPECT_THAT(findings[1].text, HasSubstr("100 ms to others and back"));
    }
  }
}

TEST(JudgementTest, TheFewestAreBlamedForLinksThatAreNotThere) {
  for (const int count : {2, 3, 4, 7, 8}) {
    for (int bad = 0; bad < count; ++bad) {
      SCOPED_TRACE(fmt::format("{} of {}", bad, count));
      auto links = links_of(count);
      for (LinkFound& link : links) {
        if (link.from == bad || link.to == bad) link.failed = "no route";
      }
      const auto findings = judge(nodes_of(count), links, {}, nullptr);
      ASSERT_EQ(findings.size(), 1U);
      EXPECT_EQ(findings[0].node, count == 2 ? 1 : bad);
      EXPECT_EQ(findings[0].severity, Severity::kBad);
      EXPECT_EQ(findings[0].code, kExitNotAssembled);
      EXPECT_THAT(findings[0].text, HasSubstr("there is no way: no route"));
    }
  }
  EXPECT_FALSE(best_links({}, 0));
}

TEST(JudgementTest, ALinkThatOnlyTookTooLongIsSlow) {
  auto links = links_of(4);
  for (LinkFound& link : links) {
    if (link.from != 3) continue;
    link.failed = "no answer in 30 s";
    link.late = true;
  }
  auto findings = judge(nodes_of(4), links, {}, nullptr);
  ASSERT_EQ(findings.size(), 1U);
  EXPECT_EQ(findings[0].node, 3);
  EXPECT_EQ(findings[0].severity, Severity::kSlow);
  EXPECT_EQ(findings[0].code, 0);
  EXPECT_THAT(findings[0].text, HasSubstr("no answer in 30 s"));
  // One that is known not to be there counts for more.
  links.back().failed = "no route";
  links.back().late = false;
  findings = judge(nodes_of(4), links, {}, nullptr);
  ASSERT_EQ(findings.size(), 1U);
  EXPECT_EQ(findings[0].severity, Severity::kBad);
  EXPECT_THAT(findings[0].text, HasSubstr("there is no way: no route"));
}

TEST(JudgementTest, TheFileOfMostIsTheRightOne) {
  auto nodes = nodes_of(3);
  for (const std::size_t i : {0, 1, 2}) nodes[i].machine->program_hash = 10;
  EXPECT_THAT(judge_them(nodes), IsEmpty());  // the launcher's is another
  nodes.resize(1);
  EXPECT_EQ(judge_them(nodes).size(), 1U);
  const JobNeeds needs = some_needs();
  EXPECT_THAT(judge(nodes, {}, needs, nullptr), IsEmpty());
  nodes = nodes_of(2);
  nodes[1].machine->program_hash = 10;
  const auto findings = judge(nodes, {}, needs, nullptr);
  ASSERT_EQ(findings.size(), 1U);
  EXPECT_EQ(findings[0].node, 1);
}

TEST(JudgementTest, WhatIsNotKnownIsNotMissed) {
  const std::vector<NodeFacts> nodes = {{.host = "a", .ranks = 1},
                                        {.host = "b", .ranks = 1}};
  EXPECT_THAT(judge(nodes, {}, JobNeeds{}, nullptr), IsEmpty());
}

TEST(JudgementTest, SlowOnesAreLeftOutWhereTheJobAllows) {
  auto nodes = nodes_of(4);
  nodes[2].flops = 1e10;
  EXPECT_THAT(choose_them(nodes, {.machines = 4, .least = 4}).nodes,
              ElementsAre(0, 1, 2, 3));
  EXPECT_THAT(
      choose_them(nodes, {.machines = 4, .least = 2, .exclude_slow = true})
          .nodes,
      ElementsAre(0, 1, 3));
  // The fourth is a spare one.
  EXPECT_THAT(
      choose_them(nodes, {.machines = 3, .least = 3, .exclude_slow = true})
          .nodes,
      ElementsAre(0, 1, 3));
  const Chosen none =
      choose_them(nodes, {.machines = 4, .least = 4, .exclude_slow = true});
  EXPECT_EQ(none.code, kExitNotAssembled);
  EXPECT_THAT(none.why, HasSubstr("3 machines are left"));
  EXPECT_THAT(none.why, HasSubstr("2 (node2) is slow: 10 GFLOP/s"));
}

TEST(JudgementTest, WhatAllLackIsTheJobsCode) {
  auto nodes = nodes_of(2);
  for (NodeFacts& node : nodes) node.machine->disk_error = "cannot write";
  const Wanted wanted{.machines = 2, .least = 1, .exclude_slow = true};
  EXPECT_EQ(choose_them(nodes, wanted).code, kExitStorage);
  nodes[1].machine->disk_error.clear();
  EXPECT_THAT(choose_them(nodes, wanted).nodes, ElementsAre(1));
}

TEST(JudgementTest, WhoIsNotThereIsTakenLast) {
  const auto nodes = nodes_of(4);
  const Wanted wanted{.machines = 3, .least = 2, .exclude_slow = true};
  EXPECT_THAT(choose(nodes, {true, false, true, true}, {}, wanted).nodes,
              ElementsAre(0, 2, 3));
  EXPECT_THAT(choose(nodes, {true, false, true, false}, {}, wanted).nodes,
              ElementsAre(0, 1, 2));
}

}  // namespace
}  // namespace catena::launcher
