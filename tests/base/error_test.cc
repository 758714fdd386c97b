#include "runtime/base/error.h"

#include <gtest/gtest.h>

namespace catena {
namespace {

TEST(ErrorTest, CarriesKindAndMessage) {
  try {
    fail(ErrorKind::kData, "{}:{}: bad row", "a.jsonl", 17);
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kData);
    EXPECT_STREQ(error.what(), "a.jsonl:17: bad row");
  }
}

TEST(ErrorTest, CheckNamesConditionPlaceAndValues) {
  const int rows = 3;
  int line = 0;
  try {
    line = __LINE__ + 1;
    CATENA_CHECK(rows == 4, "[gemm] rows {} != {}", rows, 4);
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kInvalidArgument);
    EXPECT_EQ(error.what(),
              fmt::format("[gemm] rows 3 != 4 (rows == 4 is false, "
                          "base/error_test.cc:{})",
                          line));
  }
}

TEST(ErrorTest, CheckThatHoldsDoesNotFormat) {
  int formatted = 0;
  const auto count = [&] { return ++formatted; };
  CATENA_CHECK(1 + 1 == 2, "[test] {}", count());
  EXPECT_EQ(formatted, 0);
}

}  // namespace
}  // namespace catena
