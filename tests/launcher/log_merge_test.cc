#include "launcher/log_merge.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>

namespace catena::launcher {
namespace {

TEST(LogMergeTest, RanksAreWrittenShort) {
  EXPECT_EQ(ranks_text({0}), "0");
  EXPECT_EQ(ranks_text({0, 1, 2, 4, 6, 7}), "0-2,4,6-7");
}

TEST(LogMergeTest, WhatSeveralSayIsShownOnce) {
  EXPECT_EQ(merge_lines({{0, {"a", "x", "b"}}, {1, {"a", "b", "y"}}}, 5),
            "[0-1] a\n[0]   x\n[0-1] b\n[1]   y\n");
  // One begins later.
  EXPECT_EQ(merge_lines({{0, {"a"}}, {3, {"before", "a"}}}, 3),
            "[3] before\n[0,3] a\n");
}

TEST(LogMergeTest, WhereOrdersCrossEachIsKept) {
  EXPECT_EQ(merge_lines({{0, {"a", "b"}}, {1, {"b", "a"}}}, 0),
            "[0] a\n[0-1] b\n[1] a\n");
}

TEST(LogMergeTest, GenerationsAreMetInStep) {
  EXPECT_EQ(
      merge_lines(
          {{0, {"-- generation 1, t --", "a", "-- generation 2, u --"}},
           {1, {"-- generation 1, v --", "b", "-- generation 2, w --", "c"}},
           {2, {"-- generation 2, u --", "d"}}},
          0),
      "[0-1] -- generation 1, t --\n[0] a\n[1] b\n"
      "[0-2] -- generation 2, u --\n[1] c\n[2] d\n");
}

RC_GTEST_PROP(LogMergePropertyTest, KeepsEveryLineOfEveryRankInOrder, ()) {
  const int count = *rc::gen::elementOf(std::vector<int>{1, 2, 3, 4, 7, 8});
  std::vector<RankLines> ranks;
  for (int rank = 0; rank < count; ++rank) {
    RankLines lines{rank};
    const int length = *rc::gen::inRange(0, 8);
    for (int i = 0; i < length; ++i) {
      lines.lines.push_back(fmt::format("line{}", *rc::gen::inRange(0, 4)));
    }
    ranks.push_back(lines);
  }
  std::map<int, std::vector<std::string>> read;
  std::istringstream text(merge_lines(ranks, 0));
  for (std::string line; std::getline(text, line);) {
    std::istringstream prefix(line.substr(1, line.find(']') - 1));
    for (std::string part; std::getline(prefix, part, ',');) {
      const auto dash = part.find('-');
      const int first = std::stoi(part);
      const int last =
          dash == std::string::npos ? first : std::stoi(part.substr(dash + 1));
      for (int rank = first; rank <= last; ++rank) {
        read[rank].push_back(line.substr(line.find(']') + 2));
      }
    }
  }
  for (const RankLines& rank : ranks) RC_ASSERT(read[rank.rank] == rank.lines);
}

// The first: where `catena train` goes on with what a launcher began.
TEST(RunLogsTest, AreTheLaunchersWhereThereIsAJob) {
  std::string name = testing::TempDir() + "logsXXXXXX";
  const std::filesystem::path run = ::mkdtemp(name.data());
  std::filesystem::create_directory(run / "logs");
  std::ofstream(run / "logs" / "rank-0.log") << "of the launcher\n";
  std::ofstream(run / "log.txt") << "of the trainer\n";
  const auto line = [&] { return RunLogs(run, {}).read().at(0).lines.at(0); };
  EXPECT_EQ(line(), "of the trainer");
  std::ofstream(run / "job.json") << "{}";
  EXPECT_EQ(line(), "of the launcher");
  std::filesystem::remove_all(run);
}

}  // namespace
}  // namespace catena::launcher
