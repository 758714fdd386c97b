#include "runtime/base/nearest.h"

#include <gtest/gtest.h>

namespace catena {
namespace {

TEST(NearestTest, FindsTheFewestEdits) {
  const std::vector<std::string> names = {"generate", "train", "data"};
  EXPECT_EQ(nearest_name("trian", names), "train") << "neighbours swapped";
  EXPECT_EQ(nearest_name("tran", names), "train") << "letter missing";
  EXPECT_EQ(nearest_name("traain", names), "train") << "letter too many";
  EXPECT_EQ(nearest_name("generete", names), "generate") << "wrong letter";
  EXPECT_EQ(nearest_name("data", names), "data");
}

TEST(NearestTest, SaysNothingWhenNothingIsNear) {
  EXPECT_EQ(nearest_name("checkpoint", {"train", "generate"}), "");
  EXPECT_EQ(nearest_name("train", {}), "");
}

TEST(NearestTest, SwapCostsLessThanTwoReplacements) {
  EXPECT_EQ(nearest_name("abdc", {"abxx", "abcd"}), "abcd");
}

}  // namespace
}  // namespace catena
