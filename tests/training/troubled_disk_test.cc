// Runs on disks that are slow or refuse: tests/support/troubled_disk.cc.

#include <signal.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <set>
#include <sstream>

#include "tests/training/run_fixture.h"

namespace catena {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;

constexpr const char* kLong = "--set train.steps=120";

class TroubledDiskTest : public RunFixture {
 protected:
  [[nodiscard]] pid_t start_troubled(const std::string& arguments,
                                     const std::string& before = "") const {
    return start(arguments,
                 fmt::format("{}export LD_PRELOAD='{}' CATENA_TROUBLE='{}';",
                             before, CATENA_TROUBLED_DISK, trouble().string()));
  }
  /// From now on, such as "fsync wait".
  void begin_trouble(const std::string& what) const {
    write_file_atomically(trouble(), what);
  }
  void end_trouble() const { fs::remove(trouble()); }

 private:
  [[nodiscard]] fs::path trouble() const { return folder_ / "trouble"; }
};

TEST_F(TroubledDiskTest, TrainingDoesNotWaitForASlowDisk) {
  begin_trouble("fsync wait");
  const pid_t child = start_troubled(small("run", "--set train.steps=1000000"));
  wait_for_step("run", 50);
  // The first is still being written, and those due since are not begun.
  const auto unfinished = checkpoints("run") / ".unfinished-step-000003";
  EXPECT_TRUE(fs::exists(unfinished));
  EXPECT_THAT(list_checkpoints(checkpoints("run")), IsEmpty());
  EXPECT_THAT(events("run", "checkpoint"), IsEmpty());
  end_trouble();
  // What was due meanwhile is saved once, as soon as the disk is free.
  EXPECT_GE(wait_for_event("run", "checkpoint", 2), 50);
  EXPECT_EQ(events("run", "checkpoint").front(), 3);
  ::kill(child, SIGTERM);
  const Outcome stopped = wait(child);
  EXPECT_EQ(stopped.code, 75) << stopped.err;
  EXPECT_EQ(result("run")["checkpoints_failed"], 0);
  // No step is missing from the metrics.
  EXPECT_EQ(losses("run").back().first,
            static_cast<std::int64_t>(losses("run").size()));
}

// Inside the system calls of saving, wherever in a checkpoint they are.
TEST_F(TroubledDiskTest, KilledWhileSavingEndsWithTheSameBits) {
  ASSERT_EQ(run(small("whole", kLong)).code, 0);
  for (const char* call : {"write", "fsync", "renameat2"}) {
    for (const std::size_t saved : {0, 2, 5}) {
      fs::remove_all(folder_ / "run");
      if (saved == 0) begin_trouble(fmt::format("{} kill", call));
      const pid_t child = start_troubled(small("run", kLong));
      if (saved > 0) {
        wait_for_event("run", "checkpoint", saved);
        begin_trouble(fmt::format("{} kill", call));
      }
      EXPECT_EQ(wait(child).code, 128 + SIGKILL) << call;
      end_trouble();
      const Outcome resumed =
          run(small("run", fmt::format("--resume {}", kLong)));
      ASSERT_EQ(resumed.code, 0) << resumed.err;
      EXPECT_EQ(final_state("run"), final_state("whole")) << call << saved;
    }
  }
}

TEST_F(TroubledDiskTest, ASecondSignalEndsTheRunAtOnce) {
  ASSERT_EQ(run(small("whole", kLong)).code, 0);
  for (const auto& [first, second] :
       {std::pair(SIGINT, SIGINT), std::pair(SIGTERM, SIGINT),
        std::pair(SIGINT, SIGTERM), std::pair(SIGTERM, SIGTERM)}) {
    fs::remove_all(folder_ / "run");
    const pid_t child = start_troubled(small("run", kLong));
    wait_for_event("run", "checkpoint", 2);
    // The checkpoint that the first signal asks for is never finished.
    begin_trouble("fsync wait");
    ::kill(child, first);
    wait_for_words("once more ends at once");
    ::kill(child, second);
    EXPECT_EQ(wait(child).code, 128 + second);
    end_trouble();
    EXPECT_FALSE(fs::exists(folder_ / "run" / "result.json"));
    const auto left = newest_checkpoint(checkpoints("run"));
    ASSERT_TRUE(left.has_value());
    EXPECT_LT(left->step, 120);
    const Outcome resumed = run(small("run", std::string("--resume ") + kLong));
    ASSERT_EQ(resumed.code, 0) << resumed.err;
    EXPECT_THAT(resumed.err, HasSubstr("resumed  " + left->folder.string()));
    EXPECT_TRUE(final_state("run") == final_state("whole"));
  }
}

/// A checkpoint as the calls that made it show it.
class Durability {
 public:
  void see(const std::string& line) {
    std::istringstream words(line);
    std::string call;
    fs::path path, to;
    words >> call >> path >> to;
    if (call == "write") {
      unwritten_.insert(path);
    } else if (call == "fsync") {
      unwritten_.erase(path);
      unnamed_.erase(path);
    } else {
      EXPECT_FALSE(unwritten_.contains(path)) << line;
      if (call == "renameat2") see_publication(path);
      unnamed_.insert(to.parent_path());
    }
  }
  [[nodiscard]] int published() const { return published_; }
  /// Files and folders that a crash may leave without their content.
  [[nodiscard]] std::set<fs::path> at_risk() const {
    std::set<fs::path> result = unwritten_;
    result.insert(unnamed_.begin(), unnamed_.end());
    return result;
  }

 private:
  void see_publication(const fs::path& folder) {
    ++published_;
    EXPECT_THAT(unwritten_, IsEmpty());
    EXPECT_FALSE(unnamed_.contains(folder)) << folder;
  }
  std::set<fs::path> unwritten_, unnamed_;
  int published_ = 0;
};

TEST_F(TroubledDiskTest, WhatACheckpointHoldsIsOnDiskBeforeItHasItsName) {
  const fs::path log = folder_ / "calls";
  const pid_t child =
      start(small("run", "--set train.steps=6"),
            fmt::format("export LD_PRELOAD='{}' CATENA_DISK_LOG='{}';",
                        CATENA_TROUBLED_DISK, log.string()));
  const Outcome ended = wait(child);
  ASSERT_EQ(ended.code, 0) << ended.err;
  Durability durability;
  std::ifstream calls(log);
  for (std::string line; std::getline(calls, line);) durability.see(line);
  EXPECT_GE(durability.published(), 2);
  EXPECT_THAT(durability.at_risk(), IsEmpty());
}

struct Refusal {
  const char* call;
  int error;
};

class RefusalTest : public TroubledDiskTest,
                    public testing::WithParamInterface<Refusal> {};

TEST_P(RefusalTest, TrainingGoesOnAndTheLastOneStays) {
  const auto& [call, error] = GetParam();
  const pid_t child = start_troubled(small("run", "--set train.steps=1000000"));
  wait_for_event("run", "checkpoint");
  begin_trouble(fmt::format("{} {}", call, error));
  const std::int64_t failed = wait_for_event("run", "checkpoint_failed", 2);
  EXPECT_LT(newest_checkpoint(checkpoints("run"))->step, failed);
  end_trouble();
  const std::size_t good = events("run", "checkpoint").size();
  EXPECT_GT(wait_for_event("run", "checkpoint", good + 1), failed);
  ::kill(child, SIGTERM);
  const Outcome stopped = wait(child);
  EXPECT_EQ(stopped.code, 75) << stopped.err;
  EXPECT_THAT(stopped.err,
              HasSubstr(std::string(std::strerror(error)) + "; training goes "
                                                            "on"));
  const auto report = result("run");
  EXPECT_EQ(report["state"], "stopped");
  EXPECT_EQ(report["checkpoints_failed"],
            events("run", "checkpoint_failed").size());
  EXPECT_THAT(report["checkpoint_error"], HasSubstr(std::strerror(error)));
  EXPECT_EQ(newest_checkpoint(checkpoints("run"))->step, report["step"]);
}

// What cannot be written is named by its absolute path.
TEST_F(TroubledDiskTest, APathThatIsNoUtf8IsTold) {
  const std::string place = "w\xFF";
  fs::create_directory(folder_ / place);
  fs::create_directory_symlink(fs::path(CATENA_SOURCE_DIR) / "data",
                               folder_ / place / "data");
  const std::string inside =
      fmt::format("cd '{}/{}';", folder_.string(), place);
  const std::string here = "--set run.folder=run ";
  ASSERT_EQ(run(small("", here), inside).code, 0);
  begin_trouble(fmt::format("fsync {} *model-00001*", ENOSPC));
  const Outcome refused =
      wait(start_troubled(small("", here + "--set train.steps=60 --resume-from "
                                           "run/checkpoints/step-000030"),
                          inside));
  EXPECT_EQ(refused.code, 74) << refused.err;
  const std::string told = "w\xEF\xBF\xBD/run/checkpoints";
  const auto report = result(place + "/run");
  EXPECT_THAT(report["error"], HasSubstr(told));
  EXPECT_THAT(report["checkpoint_error"], HasSubstr(told));
  EXPECT_FALSE(events(place + "/run", "checkpoint_failed").empty());
}

/// Two ranks, each with files of its own in a checkpoint.
class TroubledRankTest : public TroubledDiskTest {
 protected:
  /// Its tensors and its note, and not what is one of two files.
  static constexpr const char* kFilesOfRankOne = "*[lrt]-00002*";
  [[nodiscard]] std::string two(const std::string& run,
                                const std::string& more) const {
    return small(run, "--set parallel.expert=2 " + more);
  }
  [[nodiscard]] std::string launched(const std::string& run,
                                     const std::string& more) const {
    return "launch -n 2 --no-dashboard --grace-period 240 " +
           two(run, more).substr(std::string("train ").size());
  }
};

// The other one is not deaf to its end: it has no note to wait for any more.
TEST_F(TroubledRankTest, KilledWhileSavingHoldsUpNobody) {
  for (const char* every : {"0", "3"}) {
    const std::string run = fmt::format("run-{}", every);
    begin_trouble(fmt::format("fsync kill {}", kFilesOfRankOne));
    const auto begin = std::chrono::steady_clock::now();
    const Outcome outcome = wait(start_troubled(
        launched(run, fmt::format("--set checkpoint.every={}", every))));
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    EXPECT_LT(std::chrono::steady_clock::now() - begin,
              std::chrono::seconds(200));
    const auto job = json_of(read_file(folder_ / run / "job.json"));
    ASSERT_EQ(job["restarts"].size(), 1U) << job;
    EXPECT_EQ(job["restarts"][0]["rank"], 1);
    EXPECT_EQ(newest_checkpoint(checkpoints(run))->step, 30);
  }
}

TEST_F(TroubledRankTest, ADiskThatRefusesOneRankFailsTheCheckpointOfAll) {
  const pid_t child =
      start_troubled(two("run", "--ranks 2 --set train.steps=1000000"));
  wait_for_event("run", "checkpoint");
  begin_trouble(fmt::format("write {} {}", ENOSPC, kFilesOfRankOne));
  const std::int64_t failed = wait_for_event("run", "checkpoint_failed", 2);
  EXPECT_LT(newest_checkpoint(checkpoints("run"))->step, failed);
  end_trouble();
  const std::size_t good = events("run", "checkpoint").size();
  EXPECT_GT(wait_for_event("run", "checkpoint", good + 1), failed);
  ::kill(child, SIGTERM);
  const Outcome stopped = wait(child);
  EXPECT_EQ(stopped.code, 75) << stopped.err;
  EXPECT_THAT(stopped.err, HasSubstr("No space left on device; training goes "
                                     "on"));
  const std::string other = "run/ranks/1";
  EXPECT_EQ(events(other, "checkpoint_failed"),
            events("run", "checkpoint_failed"));
  EXPECT_EQ(events(other, "checkpoint"), events("run", "checkpoint"));
  EXPECT_THAT(result("run")["checkpoint_error"], HasSubstr("rank 1: "));
  EXPECT_EQ(newest_checkpoint(checkpoints("run"))->step, result("run")["step"]);
}

TEST_F(TroubledRankTest, ADiskThatRefusesTheLastOneOfARankEndsAllWith74) {
  begin_trouble(fmt::format("write {} {}", ENOSPC, kFilesOfRankOne));
  const Outcome outcome = wait(start_troubled(two("run", "--ranks 2")));
  EXPECT_EQ(outcome.code, 74) << outcome.err;
  EXPECT_EQ(losses("run").size(), 30U);
  for (const char* run : {"run", "run/ranks/1"}) {
    EXPECT_EQ(result(run)["state"], "failed");
    EXPECT_THAT(result(run)["error"], HasSubstr("No space left on device"));
  }
  EXPECT_FALSE(fs::exists(checkpoints("run") / ".unfinished-step-000030"));
}

INSTANTIATE_TEST_SUITE_P(
    Calls, RefusalTest,
    testing::Values(Refusal{"write", ENOSPC}, Refusal{"write", EDQUOT},
                    Refusal{"write", EIO}, Refusal{"fsync", EDQUOT},
                    Refusal{"fsync", EIO}, Refusal{"renameat2", EDQUOT},
                    Refusal{"renameat2", EROFS}),
    [](const auto& info) {
      return fmt::format("{}_{}", info.param.call, info.param.error);
    });

}  // namespace
}  // namespace catena
