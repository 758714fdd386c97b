// The page in a real browser, on the files of a run of two ranks.

#include "tests/support/browser.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <nlohmann/json.hpp>
#include <optional>
#include <thread>

#include "launcher/monitor/monitor.h"
#include "tests/launcher/monitor/run_files.h"

namespace catena::launcher {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

class BrowserTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!Browser::installed()) {
      GTEST_SKIP() << "NO BROWSER: chromium is not installed, and the page is "
                      "not looked at (Debian: chromium)";
    }
    files_.write_run();
    monitor_.emplace(files_.path());
  }
  /// What the page has become once it has drawn.
  std::string page() {
    const RunFiles own;
    Browser browser(own.path());
    browser.open(monitor_->address());
    for (int i = 0; i < 600; ++i) {
      if (browser.value("document.body.dataset.drawn") == "yes") break;
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
    return browser.value("document.documentElement.outerHTML");
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
