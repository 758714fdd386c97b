#include "launcher/local_agent.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <boost/asio/io_context.hpp>
#include <filesystem>
#include <optional>
#include <string>
#include <variant>

#include "runtime/base/lease.h"

namespace catena::launcher {
namespace {

namespace fs = std::filesystem;
using std::chrono::milliseconds;
using std::chrono::seconds;

/// A program that does nothing, as rank 0 of an agent with leases.
class LocalAgentTest : public testing::Test {
 protected:
  LocalAgentTest() {
    std::string name = testing::TempDir() + "agentXXXXXX";
    folder_ = ::mkdtemp(name.data());
  }
  ~LocalAgentTest() override { fs::remove_all(folder_); }

  LocalAgent agent() {
    return {context_,
            {.number = 0, .contact = rules_},
            {.program = "/bin/sleep",
             .arguments = {"sleep", "1000"},
             .job = fmt::format("catenatest{}", ::getpid()),
             .token = "",
             .run = folder_,
             .console_rank = -1},
            [this](const Report& report) {
              if (const auto* s = std::get_if<RankStarted>(&report.body)) {
                process_ = s->process;
              }
            }};
  }
  /// Of the rank, whose only sealed memory it is.
  [[nodiscard]] std::optional<LeaseView> lease() const {
    const fs::path open = fmt::format("/proc/{}/fd", process_);
    for (const auto& entry : fs::directory_iterator(open)) {
      std::error_code ignored;
      const fs::path target = fs::read_symlink(entry.path(), ignored);
      if (target.string().find("catena-lease") == std::string::npos) continue;
      const int descriptor = ::open(entry.path().c_str(), O_RDWR);
      std::optional<LeaseView> view(LeaseView{descriptor});
      ::close(descriptor);
      return view;
    }
    return std::nullopt;
  }

  boost::asio::io_context context_;
  const ContactRules rules_ = contact_rules(seconds(60));
  fs::path folder_;
  int process_ = 0;
};

// Else one that is cut off, and stopped just before it would end its ranks,
// leaves them for a lease more than the coordinator waits.
TEST_F(LocalAgentTest, RanksHoldALeaseFromTheCoordinatorsLastWord) {
  LocalAgent agent = this->agent();
  agent.start();
  agent.receive({1, StartGeneration{.ranks = {0}}});
  BootTime heard = boot_time();
  context_.run_for(seconds(1));
  ASSERT_NE(process_, 0);
  const auto lease = this->lease();
  ASSERT_TRUE(lease);
  EXPECT_LE(lease->until(), heard + rules_.rank_lease());
  EXPECT_GE(lease->until(), heard + rules_.lease);

  const BootTime before = boot_time();
  agent.receive({1, Ping{}});
  heard = boot_time();
  EXPECT_GE(lease->until(), before + rules_.rank_lease());
  context_.run_for(milliseconds(500));
  EXPECT_LE(lease->until(), heard + rules_.rank_lease());
}

}  // namespace
}  // namespace catena::launcher
