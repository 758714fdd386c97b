// catena verify, as a command.

#include "tests/training/run_fixture.h"

namespace catena {
namespace {

using testing::ContainsRegex;
using testing::HasSubstr;

class VerifyCommandTest : public RunFixture {
 protected:
  [[nodiscard]] Outcome verify(const std::string& more) {
    return run(
        fmt::format("verify '{0}/tiny.toml' --set data.cache='{0}/cache' {1}",
                    folder_.string(), more));
  }
};

TEST_F(VerifyCommandTest, ShowsEveryLayoutBesideTheNullExperiment) {
  const Outcome outcome = verify("--layouts 1x1,1x2,2x1 --steps 2");
  ASSERT_EQ(outcome.code, 0) << outcome.out << outcome.err;
  for (const char* layout : {"1x2", "2x1"}) {
    for (const char* mode :
         {"float64", "float32, routes replayed", "float32, free"}) {
      EXPECT_THAT(outcome.out,
                  ContainsRegex(fmt::format("{} +{} +ok ", layout, mode)));
    }
  }
  EXPECT_THAT(outcome.out, ContainsRegex("1x1 +float32[a-z, ]* +null "));
  EXPECT_THAT(outcome.out, testing::Not(HasSubstr("FAILED")));
}

TEST_F(VerifyCommandTest, RefusesWhatItCannotCompare) {
  expect_refused(
      "verify '" + (folder_ / "tiny.toml").string() + "' --layouts 1x1", 64,
      "give two or more");
}

}  // namespace
}  // namespace catena
