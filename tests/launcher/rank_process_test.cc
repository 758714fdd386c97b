#include "launcher/rank_process.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "launcher/contract.h"

namespace catena::launcher {
namespace {

namespace fs = std::filesystem;

class RankProcessTest : public testing::Test {
 protected:
  RankProcessTest() {
    std::string name = testing::TempDir() + "rankXXXXXX";
    folder_ = ::mkdtemp(name.data());
    log_ = folder_ / "log";
  }
  ~RankProcessTest() override { fs::remove_all(folder_); }

  [[nodiscard]] RankProgram of(const fs::path& program) const {
    return {
        .path = program, .arguments = {"x"}, .environment = {}, .log = log_};
  }
  /// The code of one that does not start.
  [[nodiscard]] int refusal(const fs::path& program) const {
    const Spawned spawned = spawn(of(program));
    EXPECT_EQ(spawned.process, 0);
    EXPECT_NE(spawned.why, "");
    if (spawned.process != 0) ::waitpid(spawned.process, nullptr, 0);
    return spawned.code;
  }

  fs::path folder_, log_;
};

TEST_F(RankProcessTest, WhatIsNoProgramIsNotTriedAgain) {
  EXPECT_EQ(refusal(folder_ / "none"), kExitNotFound);
  EXPECT_EQ(refusal(folder_), kExitNotExecutable);
  EXPECT_EQ(refusal("/dev/null/x"), kExitNotExecutable);
  const fs::path loop = folder_ / "loop", text = folder_ / "text";
  fs::create_symlink(loop, loop);
  EXPECT_EQ(refusal(loop), kExitNotExecutable);
  std::ofstream(text) << "text";
  EXPECT_EQ(refusal(text), kExitNotExecutable);
  fs::permissions(text, fs::perms::owner_all);
  EXPECT_EQ(refusal(text), kExitNotExecutable);
}

TEST_F(RankProcessTest, ALogThatCannotBeWrittenIsTheDisks) {
  log_ = folder_;
  EXPECT_EQ(refusal("/bin/true"), kExitStorage);
  log_ = folder_ / "none" / "log";
  EXPECT_EQ(refusal("/bin/true"), kExitStorage);
}

TEST_F(RankProcessTest, WhatIsUsedUpForNowMayBeTriedAgain) {
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  const int next = ::dup(STDIN_FILENO);
  ASSERT_GE(next, 0);
  ::close(next);
  const RankProgram program = of("/bin/true");
  // For nothing, for the empty input, for that and the log, for half a pipe.
  for (int more = 0; more < 4; ++more) {
    rlimit few = before;
    few.rlim_cur = static_cast<rlim_t>(next + more);
    ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &few), 0);
    // No member of this: sanitizers look at objects by way of a pipe.
    const Spawned spawned = spawn(program);
    ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
    EXPECT_EQ(spawned.process, 0);
    EXPECT_EQ(spawned.code, kExitInternal) << more;
  }
}

}  // namespace
}  // namespace catena::launcher
