#include "training/run_start.h"

#include <gmock/gmock.h>
#include <unistd.h>

#include <filesystem>
#include <string>

#include "parallel/local/transport.h"
#include "runtime/base/error.h"

namespace catena {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

constexpr std::chrono::seconds kDeadline(30);

class RunStartTest : public ::testing::Test {
 protected:
  RunStartTest() { fs::create_directories(folder_); }
  ~RunStartTest() override { fs::remove_all(folder_); }

  const fs::path folder_ = fs::path(::testing::TempDir()) /
                           ("run-start-" + std::to_string(::getpid()));
};

TEST_F(RunStartTest, AllBeginAsRankZeroDecided) {
  for (const int size : {1, 2, 3, 4, 7, 8}) {
    for (const bool resumes : {false, true}) {
      TrainerStart start;
      if (resumes) {
        start.resume = "a/step-1";
      } else {
        start.weights = "b.safetensors";
      }
      local::run_ranks(size, [&](Transport& transport) {
        const RunStart heard = agree_on_start(transport, kDeadline, [&] {
          EXPECT_EQ(transport.rank(), 0);
          return RunStart{{folder_}, start};
        });
        EXPECT_EQ(heard.run.path, folder_);
        EXPECT_EQ(heard.start.resume, start.resume);
        EXPECT_EQ(heard.start.weights, start.weights);
      });
      EXPECT_TRUE(fs::is_empty(folder_)) << "a sign is left";
    }
  }
}

TEST_F(RunStartTest, WhatRankZeroRefusesEndsAll) {
  try {
    local::run_ranks(3, [&](Transport& transport) {
      (void)agree_on_start(transport, kDeadline, []() -> RunStart {
        fail(ErrorKind::kUsage, "another process is training there");
      });
    });
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("another process is training there"));
  }
}

}  // namespace
}  // namespace catena
