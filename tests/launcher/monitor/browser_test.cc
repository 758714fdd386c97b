// The page in a real browser, on a run of two ranks.

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "launcher/monitor/monitor.h"
#include "runtime/base/files.h"
#include "tests/launcher/monitor/run_files.h"

namespace catena::launcher {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

class BrowserTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (std::system("command -v chromium > /dev/null 2>&1") != 0) {
      GTEST_SKIP() << "NO BROWSER: chromium is not installed, and the page is "
                      "not looked at (Debian: chromium)";
    }
    files_.write_run();
    monitor_.emplace(files_.path(), 0);
  }
  /// What the page has become after some seconds of the browser's own time.
  std::string page() {
    const std::string output = (files_.path() / "page.html").string();
    const std::string command = fmt::format(
        "chromium --headless --no-sandbox --disable-gpu "
        "--disable-dev-shm-usage --user-data-dir={}/profile "
        "--virtual-time-budget=8000 --dump-dom {} > {} 2> {}.errors",
        files_.path().string(), monitor_->address(), output, output);
    EXPECT_EQ(std::system(command.c_str()), 0) << read_file(output + ".errors");
    return read_file(output);
  }

  RunFiles files_;
  std::optional<Monitor> monitor_;
};

TEST_F(BrowserTest, DrawsChartsMapsAndTables) {
  const std::string drawn = page();
  EXPECT_THAT(drawn, AllOf(HasSubstr("data-drawn=\"yes\""),
                           HasSubstr("training -2 at step 10, of 10 points"),
                           HasSubstr("validation 4.5 at step 10, of 2 points"),
                           HasSubstr("tokens/s 200 at step 10"),
                           HasSubstr("work 0.5 at step 10"),
                           HasSubstr("dispatch 0.125 at step 10"),
                           HasSubstr("Load of each expert at step 10."),
                           HasSubstr("Transitions between experts.")));
  EXPECT_THAT(drawn,
              AllOf(HasSubstr("running"), HasSubstr("failed"),
                    HasSubstr("restart 1: rank 1 was killed"),
                    HasSubstr("step skipped: a spike"), HasSubstr("of rank 0"),
                    Not(HasSubstr("<b>")), Not(HasSubstr("not answered"))));
}

}  // namespace
}  // namespace catena::launcher
