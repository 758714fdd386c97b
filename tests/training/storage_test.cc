// Runs on disks that are full or read-only.

#include <signal.h>

#include <optional>

#include "tests/support/private_disk.h"
#include "tests/training/run_fixture.h"

namespace catena {
namespace {

using testing::HasSubstr;
using testing::Not;

constexpr const char* kLong = "--set train.steps=200";

class StorageTest : public RunFixture {
 protected:
  void SetUp() override {
    const std::string obstacle = keep_mounts_private();
    if (!obstacle.empty()) GTEST_SKIP() << "this machine lacks " << obstacle;
  }
  /// The bytes of one checkpoint of small().
  [[nodiscard]] std::int64_t checkpoint_bytes() const {
    for (const auto& line : metrics("whole")) {
      if (!line.contains("catena_checkpoint_bytes")) continue;
      return line["catena_checkpoint_bytes"].get<std::int64_t>();
    }
    return -1;
  }
  /// Stops the run, goes on with it, and compares it with the one on a good
  /// disk.
  void expect_ends_like_whole(pid_t child, const std::string& run_name) {
    ::kill(child, SIGTERM);
    const Outcome stopped = wait(child);
    ASSERT_EQ(stopped.code, 75) << stopped.err;
    const Outcome resumed =
        run(small(run_name, std::string("--resume ") + kLong));
    ASSERT_EQ(resumed.code, 0) << resumed.err;
    EXPECT_THAT(resumed.err, HasSubstr("resumed  "));
    EXPECT_TRUE(final_state(run_name) == final_state("whole"));
  }
};

TEST_F(StorageTest, AReadOnlyDiskIsRefusedBeforeTraining) {
  ASSERT_EQ(run(small("run")).code, 0);
  const std::string before = final_state("run");
  const ReadOnlyFolder disk(folder_ / "run");
  const Outcome made = run(small("run/inner"));
  EXPECT_EQ(made.code, 74);
  EXPECT_THAT(made.err, HasSubstr("run/inner: cannot make the run's folder: "
                                  "Read-only file system"));
  const Outcome resumed = run(small("run", "--resume --set train.steps=36"));
  EXPECT_EQ(resumed.code, 74);
  EXPECT_THAT(resumed.err, HasSubstr("Read-only file system"));
  EXPECT_EQ(losses("run").size(), 30U);
  EXPECT_TRUE(final_state("run") == before);
}

TEST_F(StorageTest, RoutesOnAFullDiskAreGivenUpAndTrainingGoesOn) {
  const PrivateDisk disk(folder_ / "disk", 64 << 10);
  const Outcome outcome =
      run(small("run", fmt::format("--record-routing '{}/disk/routes.bin'",
                                   folder_.string())));
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_THAT(outcome.err,
              testing::AllOf(HasSubstr("No space left on device"),
                             HasSubstr("training goes on without recording")));
  EXPECT_EQ(losses("run").size(), 30U);
}

TEST_F(StorageTest, AReadOnlyCheckpointFolderIsRefusedBeforeTraining) {
  ASSERT_EQ(run(small("run")).code, 0);
  std::optional<ReadOnlyFolder> disk(checkpoints("run"));
  const std::string more = "--resume --set train.steps=36";
  const Outcome resumed = run(small("run", more));
  EXPECT_EQ(resumed.code, 74);
  EXPECT_THAT(resumed.err,
              HasSubstr("run/checkpoints: checkpoints cannot be saved there: "
                        "Read-only file system"));
  EXPECT_EQ(losses("run").size(), 30U);
  disk.reset();
  EXPECT_EQ(run(small("run", more)).code, 0);
  EXPECT_EQ(losses("run").size(), 36U);
}

TEST_F(StorageTest, ADiskThatBecomesReadOnlyLeavesTheLastOne) {
  ASSERT_EQ(run(small("whole", kLong)).code, 0);
  const pid_t child = start(small("run", kLong));
  wait_for_event("run", "checkpoint");
  std::optional<ReadOnlyFolder> disk(folder_ / "run");
  const std::int64_t failed = wait_for_event("run", "checkpoint_failed");
  wait_for_step("run", failed + 2);
  EXPECT_LT(newest_checkpoint(checkpoints("run"))->step, failed);
  disk.reset();
  const std::size_t good = events("run", "checkpoint").size();
  EXPECT_GT(wait_for_event("run", "checkpoint", good + 1), failed);
  expect_ends_like_whole(child, "run");
}

TEST_F(StorageTest, ADiskThatStaysReadOnlyEndsTheRunWith74) {
  const pid_t child = start(small("run"));
  wait_for_event("run", "checkpoint");
  const ReadOnlyFolder disk(checkpoints("run"));
  const Outcome outcome = wait(child);
  EXPECT_EQ(outcome.code, 74) << outcome.err;
  EXPECT_EQ(losses("run").size(), 30U);
  EXPECT_EQ(events("run", "checkpoint_failed").back(), 30);
  const auto report = result("run");
  EXPECT_EQ(report["state"], "failed");
  EXPECT_EQ(report["step"], 30);
  EXPECT_THAT(report["error"], HasSubstr("Read-only file system"));
  EXPECT_EQ(report["checkpoints_failed"],
            events("run", "checkpoint_failed").size());
  EXPECT_LT(newest_checkpoint(checkpoints("run"))->step, 30);
}

TEST_F(StorageTest, AFullDiskLeavesTheLastOneUntilThereIsRoom) {
  ASSERT_EQ(run(small("whole", kLong)).code, 0);
  // One checkpoint and the metrics; not a second one before the first is gone.
  const std::int64_t one = checkpoint_bytes();
  PrivateDisk disk(folder_ / "disk", one + one * 4 / 5);
  const pid_t child = start(small("disk/run", kLong));
  const std::int64_t failed =
      wait_for_event("disk/run", "checkpoint_failed", 2);
  EXPECT_LT(newest_checkpoint(checkpoints("disk/run"))->step, failed);
  EXPECT_EQ(events("disk/run", "checkpoint").size(), 1U);
  disk.resize(10 * one);
  EXPECT_GT(wait_for_event("disk/run", "checkpoint", 2), failed);
  expect_ends_like_whole(child, "disk/run");
}

TEST_F(StorageTest, AFailureIsInTheMetricsAndTheReport) {
  ASSERT_EQ(run(small("whole")).code, 0);
  const std::int64_t one = checkpoint_bytes();
  const PrivateDisk disk(folder_ / "disk", one + one * 4 / 5);
  const Outcome full = run(small("disk/run"));
  EXPECT_EQ(full.code, 74) << full.err;
  EXPECT_THAT(full.err, HasSubstr("No space left on device; training goes on"));
  EXPECT_THAT(full.err, HasSubstr(" checkpoints could not be written, the "
                                  "last because "));
  EXPECT_EQ(losses("disk/run").size(), 30U);
  const auto failed = events("disk/run", "checkpoint_failed");
  ASSERT_GE(failed.size(), 2U);
  EXPECT_EQ(failed.back(), 30);
  const auto report = result("disk/run");
  EXPECT_EQ(report["state"], "failed");
  EXPECT_EQ(report["checkpoints_failed"], failed.size());
  EXPECT_THAT(report["checkpoint_error"], HasSubstr("No space left on device"));
}

TEST_F(StorageTest, ADiskWithoutAnyRoomStopsNoTraining) {
  const std::int64_t room = std::int64_t{64} << 20;
  PrivateDisk disk(folder_ / "disk", room);
  const pid_t child = start(small("disk/run", "--set train.steps=1000000"));
  const std::int64_t good = wait_for_event("disk/run", "checkpoint");
  const fs::path filler = folder_ / "disk" / "filler";
  std::ofstream(filler) << std::string(static_cast<std::size_t>(room), 'x');
  wait_for_words(
      "metrics.jsonl: cannot write: No space left on device; "
      "training goes on without");
  wait_for_words("No space left on device; training goes on\n");
  EXPECT_GE(newest_checkpoint(checkpoints("disk/run"))->step, good);
  const std::size_t before = events("disk/run", "checkpoint").size();
  fs::remove(filler);
  wait_for_event("disk/run", "checkpoint", before + 1);
  ::kill(child, SIGTERM);
  EXPECT_EQ(wait(child).code, 75);
  EXPECT_GT(result("disk/run")["checkpoints_failed"], 0);
}

TEST_F(StorageTest, AFullDiskIsRefusedBeforeTraining) {
  const PrivateDisk disk(folder_ / "disk", std::int64_t{1} << 20);
  std::ofstream(folder_ / "disk" / "filler") << std::string(1 << 20, 'x');
  const Outcome outcome = run(small("disk/run"));
  EXPECT_EQ(outcome.code, 74) << outcome.err;
  EXPECT_THAT(outcome.err, HasSubstr("No space left on device"));
  EXPECT_THAT(outcome.err, Not(HasSubstr("step ")));
  EXPECT_FALSE(fs::exists(folder_ / "disk" / "run"));
}

// The same by a limit of the process: metrics fit, 2 MiB of state do not.
using StorageLimitTest = RunFixture;

TEST_F(StorageLimitTest, TrainingGoesOnWithoutCheckpoints) {
  const Outcome full = run(small("run"), "trap '' XFSZ; ulimit -f 600;");
  EXPECT_EQ(full.code, 74) << full.err;
  EXPECT_THAT(full.err, HasSubstr("training goes on"));
  EXPECT_EQ(losses("run").size(), 30U);
  EXPECT_FALSE(events("run", "checkpoint_failed").empty());
  EXPECT_EQ(result("run")["state"], "failed");
  EXPECT_TRUE(list_checkpoints(checkpoints("run")).empty());
}

}  // namespace
}  // namespace catena
