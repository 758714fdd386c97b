#include "launcher/node_list.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <sstream>

#include "runtime/base/error.h"
#include "runtime/base/files.h"
#include "tests/launcher/program.h"

namespace catena::launcher {
namespace {

using ::testing::ElementsAre;
using Names = std::vector<std::string>;

struct List {
  const char* text;
  Names names;
};

std::vector<List> lists() {
  return {
      {"a", {"a"}},
      {"alpha,beta", {"alpha", "beta"}},
      {"jean-zay-ia810", {"jean-zay-ia810"}},
      {"jean-zay-ia[810-812]",
       {"jean-zay-ia810", "jean-zay-ia811", "jean-zay-ia812"}},
      {"n[1,3-4]", {"n1", "n3", "n4"}},
      {"n[8-10]", {"n8", "n9", "n10"}},
      {"n[08-10,007]", {"n08", "n09", "n10", "n007"}},
      {"n[0-0]", {"n0"}},
      {"n[1-03]", {"n1", "n2", "n3"}},
      {"n[98-101]", {"n98", "n99", "n100", "n101"}},
      {"r[1-2]n[01-02]", {"r1n01", "r1n02", "r2n01", "r2n02"}},
      {"r[1-2]n[1]-ib,x", {"r1n1-ib", "r2n1-ib", "x"}},
      {"a[1-2][3-4]", {"a13", "a14", "a23", "a24"}},
      {"[1-2]", {"1", "2"}},
      {"n[2,1]", {"n2", "n1"}},
      {"a_b.c,d[1].e", {"a_b.c", "d1.e"}},
      {"n[000000001-000000002]", {"n000000001", "n000000002"}},
  };
}

TEST(NodeListTest, IsExpandedAsSlurmDoes) {
  for (const List& list : lists()) {
    EXPECT_EQ(expand_node_list(list.text, "L"), list.names) << list.text;
  }
}

struct Wrong {
  std::string text, message;
};

TEST(NodeListTest, WhatIsWrongIsSaidWithItsColumn) {
  const std::string long_name(256, 'a');
  const std::vector<Wrong> cases = {
      {"", "L: column 1: a node's name is missing here"},
      {"a,", "L: column 3: a node's name is missing here"},
      {"a,,b", "L: column 3: a node's name is missing here"},
      {"n[3-1]", "L: column 3: the range 3-1 runs backwards; write 1-3"},
      {"n[1", "L: column 2: '[' is not closed by a ']'"},
      {"n1]", "L: column 3: ']' without '['"},
      {"n[1]]", "L: column 5: ']' without '['"},
      {"n[]",
       "L: column 3: a number, or two with '-' between them, as in "
       "[1,4-6], is missing here"},
      {"n[1,]", "L: column 5: a number,"},
      {"n[1-]", "L: column 5: a number,"},
      {"n[-1]", "L: column 3: a number,"},
      {"n[1-2-3]", "L: column 5: a number,"},
      {"n[[1]]", "L: column 3: a number,"},
      {"n[ 1]", "L: column 3: a number,"},
      {"n[0x1]", "L: column 3: a number,"},
      {"n[1234567890]", "L: column 3: a number of more than nine digits"},
      {"a,-oProxy", "L: column 3: a node's name cannot begin with a dash"},
      {"a b", "L: column 2: byte 0x20 cannot be in a node's name"},
      {"a;b", "L: column 2: ';' cannot be in a node's name"},
      {"ab[1]$", "L: column 6: '$' cannot be in a node's name"},
      {"a\x1b", "L: column 2: byte 0x1b cannot be in"},
      {"n[1-2],n2",
       "L: column 8: n2 is there twice, first at L: column 1; remove one"},
      {"n[1,1]", "L: column 1: n1 is there twice"},
      {"a,A", "L: column 3: A is there twice"},
      {long_name, "L: column 1: a node's name has more than 255 characters"},
      {"n[1-65537]", "L: column 2: more than 65536 nodes up to here"},
      {"n[1-999999999]", "L: column 2: more than 65536 nodes"},
      {"x,n[1-65536]", "L: column 3: more than 65536 nodes"},
      {"n[1-256][1-257]", "L: column 9: more than 65536 nodes"},
  };
  for (const Wrong& wrong : cases) {
    try {
      (void)expand_node_list(wrong.text, "L");
      ADD_FAILURE() << wrong.text;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kConfig);
      EXPECT_THAT(error.what(), ::testing::StartsWith(wrong.message));
    }
  }
}

TEST(NodeListTest, AsManyAsThereMayBeAreExpanded) {
  const Names names = expand_node_list("n[0-255]-[0-255]", "L");
  ASSERT_EQ(names.size(), kMostHosts);
  EXPECT_EQ(names.back(), "n255-255");
}

TEST(NodeListTest, ManyBracketsAreRefusedAndNoStackIsLost) {
  std::string text;
  for (int i = 0; i < 1000000; ++i) text += "[1]";
  EXPECT_THROW((void)expand_node_list(text, "L"), Error);
}

TEST(NodeListTest, CountsAreExpanded) {
  EXPECT_THAT(expand_counts("4", "C"), ElementsAre(4));
  EXPECT_THAT(expand_counts("2(x3),1", "C"), ElementsAre(2, 2, 2, 1));
  EXPECT_THAT(expand_counts("1,2(x1),3(x2)", "C"), ElementsAre(1, 2, 3, 3));
  EXPECT_EQ(expand_counts("7(x65536)", "C").size(), kMostHosts);
}

TEST(NodeListTest, CountsThatAreWrongAreRefused) {
  for (const char* text :
       {"", "0", "-1", "2(x0)", "2(x)", "2(x3", "2x3", "2(3)", "(x3)", "1,",
        "2(x65537)", "1,2(x65536)", "65537", "99999999999999999999", "2(x3))",
        "2(x3)4", " 2", "2 "}) {
    EXPECT_THROW((void)expand_counts(text, "C"), Error) << text;
  }
  try {
    (void)expand_counts("1,2(xa)", "C");
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(),
                 "C: column 6: a repetition, as in 2(x3), is a whole number "
                 "from 1 to 65536");
  }
}

/// A list written and expanded at random, by another way: brackets are
/// counted from the last, as digits of a number are.
struct RandomList {
  std::string text;
  Names names;
};

std::string padded(int number, int width) {
  std::string digits = std::to_string(number);
  while (static_cast<int>(digits.size()) < width) digits.insert(0, 1, '0');
  return digits;
}

RandomList random_item(int number) {
  RandomList item{fmt::format("{}x-", number), {fmt::format("{}x-", number)}};
  const int brackets = *rc::gen::inRange(0, 4);
  for (int i = 0; i < brackets; ++i) {
    const int width = *rc::gen::inRange(1, 5);
    const int first = *rc::gen::inRange(0, 20);
    const int last = first + *rc::gen::inRange(0, 5);
    const int more = last + *rc::gen::inRange(1, 3);
    const std::string from = padded(first, width);
    const int shown = static_cast<int>(from.size());
    item.text += fmt::format("[{}-{},{}]y", from, last, padded(more, width));
    Names names;
    for (const std::string& name : item.names) {
      for (int n = first; n <= last; ++n) {
        names.push_back(name + padded(n, shown) + "y");
      }
      names.push_back(name + padded(more, width) + "y");
    }
    item.names = std::move(names);
  }
  return item;
}

RandomList random_list() {
  RandomList list;
  const int items = *rc::gen::inRange(1, 5);
  for (int i = 0; i < items; ++i) {
    const RandomList item = random_item(i);
    list.text += (i > 0 ? "," : "") + item.text;
    list.names.insert(list.names.end(), item.names.begin(), item.names.end());
  }
  return list;
}

RC_GTEST_PROP(NodeListPropertyTest, IsWhatItWasWrittenFrom, ()) {
  const RandomList list = random_list();
  RC_ASSERT(expand_node_list(list.text, "L") == list.names);
}

RC_GTEST_PROP(NodeListPropertyTest, CountsAreWhatTheyWereWrittenFrom, ()) {
  std::string text;
  std::vector<int> counts;
  const int parts = *rc::gen::inRange(1, 8);
  for (int i = 0; i < parts; ++i) {
    const int count = *rc::gen::inRange(1, 200);
    const int times = *rc::gen::inRange(1, 9);
    text += fmt::format("{}{}", i > 0 ? "," : "", count);
    if (times > 1 || *rc::gen::arbitrary<bool>()) {
      text += fmt::format("(x{})", times);
    }
    counts.insert(counts.end(), static_cast<std::size_t>(times), count);
  }
  RC_ASSERT(expand_counts(text, "C") == counts);
}

RC_GTEST_PROP(NodeListPropertyTest, AnyBytesAreAListOrRefused,
              (const std::string& text)) {
  try {
    RC_ASSERT(!expand_node_list(text, "L").empty());
  } catch (const Error& error) {
    RC_ASSERT(error.kind() == ErrorKind::kConfig);
  }
}

bool ends_behind_a_bracket(const std::string& text) {
  const auto close = text.rfind(']');
  return close != std::string::npos && close + 1 < text.size() &&
         text[close + 1] != ',';
}

TEST(NodeListTest, AgreesWithScontrol) {
  const char* kProgram = "/usr/bin/scontrol";
  if (::access(kProgram, X_OK) != 0) {
    GTEST_SKIP() << "Slurm's scontrol (Debian: slurm-client) is not installed: "
                    "node lists are compared with the tables here alone";
  }
  // It wants a configuration even where it asks nobody.
  std::string folder = ::testing::TempDir() + "scontrolXXXXXX";
  ASSERT_NE(::mkdtemp(folder.data()), nullptr);
  const std::string configuration = folder + "/slurm.conf";
  write_file_atomically(configuration,
                        "ClusterName=x\nSlurmctldHost=localhost\n");
  for (const List& list : lists()) {
    const Outcome outcome =
        Program(kProgram, {"scontrol", "show", "hostnames", list.text},
                {"SLURM_CONF=" + configuration})
            .wait();
    // Slurm's own parser (22.05) takes no text there, and this one does.
    if (ends_behind_a_bracket(list.text)) continue;
    std::istringstream lines(outcome.output);
    Names names;
    for (std::string line; std::getline(lines, line);) names.push_back(line);
    EXPECT_EQ(names, list.names) << list.text << ": " << outcome.error;
  }
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace catena::launcher
