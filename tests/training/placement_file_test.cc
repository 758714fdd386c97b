#include "training/placement_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtime/base/error.h"
#include "training/config.h"

namespace catena {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr PlacementShape kShape{.experts = 5, .ranks = 3, .layers = 4};

TEST(PlacementFileTest, SaysWhoHoldsWhichExperts) {
  const Placements placements = parse_placements(R"(
ranks = 3
experts = [0, 1, [1, 2], 0, 2]
[[layer]]
number = 2
experts = [2, [1, 0], 1, 0, 2]
)",
                                                 "p.toml", kShape);
  for (const std::int64_t layer : {0, 1, 3}) {
    EXPECT_THAT(placements[layer].holders(1), ElementsAre(1));
    EXPECT_THAT(placements[layer].holders(2), ElementsAre(1, 2));
    EXPECT_THAT(placements[layer].held(2), ElementsAre(2, 4));
  }
  EXPECT_THAT(placements[2].holders(1), ElementsAre(0, 1));
  EXPECT_THAT(placements[2].held(2), ElementsAre(0, 4));
  const Placements alike =
      parse_placements("ranks = 3\nexperts = [0, 1, 2, 0, 2]", "p", kShape);
  EXPECT_EQ(alike.size(), 1U);
}

TEST(PlacementFileTest, EveryMistakeIsRefusedWhereItStands) {
  const std::string good = "ranks = 3\nexperts = [0, 1, [1, 2], 0, 2]\n";
  const auto refusal = [](const std::string& text) -> std::string {
    try {
      static_cast<void>(parse_placements(text, "p.toml", kShape));
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kConfig);
      return error.what();
    }
    return "nothing was refused";
  };
  const std::pair<std::string, const char*> cases[] = {
      {"ranks = 3\nexperts = [0, 1, 2, 0]",
       "p.toml:2:11: expert 4 is missing: the model has 5, here are 4"},
      {"ranks = 3\nexperts = [0, 1, 2, 0,\n 1, 2]",
       "p.toml:3:5: there is no expert 5: the model has 5, from 0"},
      {"ranks = 3\nexperts = [0, 1,\n [], 2, 0]",
       "p.toml:3:2: nobody holds expert 2"},
      {"ranks = 3\nexperts = [0, 1, [2, 1, 2], 2, 0]",
       "p.toml:2:25: rank 2 holds expert 2 twice"},
      {"ranks = 3\nexperts = [0, 3, 1, 2, 0]",
       "p.toml:2:15: expert 1 is on rank 3, but ranks are 0 to 2"},
      {"ranks = 3\nexperts = [0, [1, -1], 1, 2, 0]",
       "p.toml:2:19: expert 1 is on rank -1, but ranks are 0 to 2"},
      {"ranks = 3\nexperts = [0, 1, 1, 0, 0]",
       "p.toml:2:11: rank 2 holds no expert"},
      {"ranks = 4\nexperts = [0, 1, 2, 3, 0]",
       "p.toml:1:9: this placement is for 4 ranks that share experts, and here "
       "are 3; set parallel.expert = 4"},
      {"ranks = 3\nexperts = [0, 1, \"2\", 2, 0]",
       "p.toml:2:18: a rank must be a whole number"},
      {"ranks = 3\nexperts = 1", "p.toml:2:11: experts must be a list"},
      {"experts = [0]", "ranks is missing"},
      {"ranks = 3", "experts is missing"},
      {"ranks = 3\nexpert = [0]", "p.toml:2:10: unknown key expert"},
      {"ranks = \n", "p.toml:1:"},
      {good + "layer = 3", "p.toml:3:9: layer must be a list"},
      {good + "layer = [3]", "layer must be a table"},
      {good + "[[layer]]\nnumber = 4\nexperts = [0, 1, 2, 0, 0]",
       "p.toml:4:10: layer 4 does not exist: layers with a chain are 0 to 3"},
      {good + "[[layer]]\nnumber = 1\nexperts = [0, 1, 2, 0, 0]\n"
              "[[layer]]\nnumber = 1\nexperts = [0, 1, 2, 0, 0]",
       "p.toml:7:10: layer 1 is named twice"},
      {good + "[[layer]]\nnumber = 1\nexperts = [0, 1, 2, 0]",
       "p.toml:5:11: expert 4 is missing"},
  };
  for (const auto& [text, message] : cases) {
    EXPECT_THAT(refusal(text), HasSubstr(message)) << text;
  }
}

}  // namespace
}  // namespace catena
