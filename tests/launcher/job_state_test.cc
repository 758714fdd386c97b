#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>

#include "launcher/contract.h"
#include "tests/launcher/job_state_fixture.h"

namespace catena::launcher {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

TEST_F(JobStateTest, AJobThatEndsWell) {
  static_cast<void>(begin(state_, now_));
  EXPECT_THAT(hear(0, 0, AgentReady{}), IsEmpty());
  EXPECT_THAT(hear(1, 0, AgentReady{}), ElementsAre("0<open 1"));
  EXPECT_THAT(hear(0, 1, RendezvousOpen{"h:1"}),
              ElementsAre("0<start 1", "1<start 1"));
  EXPECT_THAT(hear(0, 1, RendezvousOpen{"h:1"}), IsEmpty());
  EXPECT_EQ(state_.phase, JobPhase::kRendezvous);
  for (int rank = 0; rank < 4; ++rank) hear(rank / 2, 1, RankJoined{rank});
  EXPECT_EQ(state_.phase, JobPhase::kRunning);
  EXPECT_FALSE(next_deadline(state_).has_value()) << "a job may take its time";
  for (int rank = 0; rank < 4; ++rank)
    EXPECT_THAT(exited(1, left(rank, 0)), IsEmpty());
  EXPECT_THAT(empty(1, 1), IsEmpty());
  EXPECT_THAT(empty(1, 1), IsEmpty()) << "said twice";
  EXPECT_THAT(empty(0, 1), ElementsAre("finish"));
  expect_end(JobPhase::kSucceeded, 0);
}

TEST_F(JobStateTest, ADeathEndsTheOthersAndThenTheNextGenerationBegins) {
  run();
  EXPECT_THAT(exited(1, killed(2)), IsEmpty());
  EXPECT_THAT(later(milliseconds(499)), IsEmpty());
  EXPECT_THAT(later(milliseconds(1)), ElementsAre("0<stop 1", "1<stop 1"));
  checkpoint_seen(state_, 40);
  EXPECT_THAT(empty(0, 1), IsEmpty());
  EXPECT_THAT(empty(1, 1), ElementsAre("0<open 2"));
  EXPECT_THAT(said_, HasSubstr("rank 2 was killed by signal 9 (Killed)"));
  EXPECT_THAT(said_, HasSubstr("restart 1 of 3 from step 40"));
  EXPECT_EQ(state_.generation, 2);
  // What is left of generation 1 is dropped.
  EXPECT_THAT(exited(1, killed(0)), IsEmpty());
  EXPECT_THAT(empty(0, 1), IsEmpty());
  EXPECT_EQ(state_.stale, 2);
  EXPECT_THAT(hear(0, 2, RendezvousOpen{"h:2"}),
              ElementsAre("0<start 2", "1<start 2"));
}

TEST_F(JobStateTest, ManyDeathsAtOnceAreOneRestart) {
  run();
  checkpoint_seen(state_, 40);
  for (const int rank : {3, 1, 0, 2}) exited(1, killed(rank));
  empty(0, 1);
  EXPECT_THAT(empty(1, 1), ElementsAre("0<open 2"));
  EXPECT_EQ(state_.policy.restarts, 1);
  EXPECT_EQ(state_.restarted.at(0).rank, 3);
}

TEST_F(JobStateTest, WithoutProgressTheNextOneWaits) {
  run();
  exited(1, killed(2));
  later(seconds(1));
  empty(0, 1);
  EXPECT_THAT(empty(1, 1), IsEmpty());
  EXPECT_EQ(state_.phase, JobPhase::kRestarting);
  EXPECT_THAT(later(milliseconds(999)), IsEmpty());
  EXPECT_THAT(later(milliseconds(1)), ElementsAre("0<open 2"));
}

TEST_F(JobStateTest, ARefusedConfigurationIsNotTriedAgain) {
  start();
  exited(1, left(0, kExitConfig));
  later(seconds(1));
  empty(1, 1);
  EXPECT_THAT(empty(0, 1), ElementsAre("finish"));
  EXPECT_THAT(said_, HasSubstr("another start would meet the same"));
  expect_end(JobPhase::kFailed, kExitConfig);
}

TEST_F(JobStateTest, AnEarlyCodeZeroIsAFailure) {
  run();
  RankEnding early = left(1, 0);
  early.done = false;
  exited(1, early);
  EXPECT_THAT(later(seconds(1)), ElementsAre("0<stop 1", "1<stop 1"));
}

TEST_F(JobStateTest, TheFirstFailureIsSaidBeforeTheOthersHaveEnded) {
  run();
  exited(1, killed(2));
  constexpr const char* kSaid =
      "rank 2 was killed by signal 9 (Killed); the others are ended, too\n";
  EXPECT_EQ(said_, kSaid);
  RankEnding lost = left(0, 70);
  lost.lost = true;
  exited(0, lost);
  EXPECT_EQ(said_, kSaid);
}

TEST_F(JobStateTest, TheFirstSignalSavesTheSecondEndsAtOnce) {
  run();
  EXPECT_THAT(asked(SIGTERM), ElementsAre("0<stop 1", "1<stop 1"));
  EXPECT_EQ(state_.phase, JobPhase::kSaving);
  EXPECT_THAT(asked(SIGTERM), ElementsAre("0<kill 1", "1<kill 1"));
  for (int rank = 0; rank < 4; ++rank) exited(1, killed(rank));
  checkpoint_seen(state_, 40);
  empty(0, 1);
  EXPECT_THAT(empty(1, 1), ElementsAre("finish"));
  expect_end(JobPhase::kCancelled, 128 + SIGTERM);
}

TEST_F(JobStateTest, AnOrderlyStopIsPreempted) {
  run();
  asked(SIGINT);
  for (int rank = 0; rank < 4; ++rank) exited(1, left(rank, kExitPreempted));
  empty(0, 1);
  EXPECT_THAT(empty(1, 1), ElementsAre("finish"));
  expect_end(JobPhase::kPreempted, kExitPreempted);
}

TEST_F(JobStateTest, ATimeLimitStopsInOrder) {
  state_.options.time_limit = std::chrono::seconds(60);
  run();
  ASSERT_EQ(next_deadline(state_), now_ + std::chrono::seconds(60));
  EXPECT_THAT(later(std::chrono::seconds(59)), IsEmpty());
  EXPECT_THAT(later(std::chrono::seconds(1)),
              ElementsAre("0<stop 1", "1<stop 1"));
  for (int rank = 0; rank < 4; ++rank) exited(1, left(rank, kExitPreempted));
  empty(0, 1);
  EXPECT_THAT(empty(1, 1), ElementsAre("finish"));
  expect_end(JobPhase::kPreempted, kExitPreempted);
}

TEST_F(JobStateTest, ATimeLimitBeforeAnythingIsSavedHasACodeOfItsOwn) {
  state_.options.time_limit = std::chrono::seconds(60);
  static_cast<void>(texts(begin(state_, now_)));
  EXPECT_THAT(later(std::chrono::seconds(60)), ElementsAre("finish"));
  EXPECT_THAT(said_, HasSubstr("the time limit of 60 s"));
  expect_end(JobPhase::kCancelled, kExitTimeLimit);
}

TEST_F(JobStateTest, AnOrderlyStopThatDoesNotSaveSaysSo) {
  run();
  asked(SIGTERM);
  exited(1, left(0, kExitPreempted));
  RankEnding slow = killed(1);
  slow.stopped = true;
  exited(1, slow);
  empty(0, 1);
  EXPECT_THAT(empty(1, 1), ElementsAre("finish"));
  expect_end(JobPhase::kCancelled, 128 + SIGTERM);
}

TEST_F(JobStateTest, AStopWhileItIsRestartingEndsTheJob) {
  for (const std::int64_t step : {0, 40}) {
    state_ = JobState(state_.options);
    run();
    exited(1, killed(2));
    later(seconds(1));
    checkpoint_seen(state_, step);
    empty(0, 1);
    empty(1, 1);
    EXPECT_FALSE(state_.started);
    EXPECT_THAT(asked(SIGTERM), ElementsAre("0<kill 2", "1<kill 2", "finish"));
    if (step > 0) {
      expect_end(JobPhase::kPreempted, kExitPreempted);
    } else {
      expect_end(JobPhase::kCancelled, 128 + SIGTERM);
    }
  }
}

TEST_F(JobStateTest, AStopWhileAFailureIsHandledIsNoRestart) {
  run();
  exited(1, killed(2));
  EXPECT_THAT(asked(SIGTERM), ElementsAre("0<stop 1", "1<stop 1"));
  checkpoint_seen(state_, 40);
  empty(0, 1);
  EXPECT_THAT(empty(1, 1), ElementsAre("finish"));
  expect_end(JobPhase::kPreempted, kExitPreempted);
  EXPECT_EQ(state_.policy.restarts, 0);
}

TEST_F(JobStateTest, RanksThatSaveUnaskedHaveTheGracePeriod) {
  run();
  exited(1, left(2, kExitPreempted));
  EXPECT_EQ(state_.phase, JobPhase::kSaving);
  EXPECT_THAT(later(seconds(4)), IsEmpty());
  EXPECT_THAT(later(seconds(1)), ElementsAre("0<stop 1", "1<stop 1"));
  for (const int rank : {0, 1, 3}) exited(1, left(rank, kExitPreempted));
  empty(0, 1);
  empty(1, 1);
  expect_end(JobPhase::kPreempted, kExitPreempted);
}

TEST_F(JobStateTest, WhoIsMissingIsSaidAndThenGivenUp) {
  start();
  for (const int rank : {0, 2}) hear(rank / 2, 1, RankJoined{rank});
  EXPECT_THAT(later(seconds(20)), IsEmpty());
  EXPECT_THAT(said_, HasSubstr("2 of 4 ranks have not met: 1, 3; 20 s of"));
  EXPECT_THAT(later(seconds(600)), ElementsAre("0<stop 1", "1<stop 1"));
  for (int rank = 0; rank < 4; ++rank) {
    RankEnding ending = killed(rank);
    ending.stopped = true;
    exited(1, ending);
  }
  empty(0, 1);
  empty(1, 1);
  EXPECT_EQ(state_.phase, JobPhase::kRestarting);
  EXPECT_EQ(state_.restarted.at(0).code, kExitNotAssembled);
}

TEST_F(JobStateTest, AnAgentThatDoesNotComeIsNamed) {
  static_cast<void>(begin(state_, now_));
  hear(0, 0, AgentReady{});
  EXPECT_THAT(later(seconds(600)), ElementsAre("finish"));
  EXPECT_THAT(said_, HasSubstr("1 of 2 agents are not ready: 1"));
  expect_end(JobPhase::kFailed, kExitNotAssembled);
}

TEST_F(JobStateTest, AnAgentThatDoesNotEndItsRanksIsNamed) {
  run();
  exited(1, killed(2));
  later(seconds(1));
  empty(1, 1);
  EXPECT_THAT(later(seconds(15)), ElementsAre("finish"));
  EXPECT_THAT(said_, HasSubstr("agents 0 did not end their ranks"));
  expect_end(JobPhase::kFailed, kExitInternal);
}

TEST_F(JobStateTest, ARankThatHangsIsTheCauseWhateverTheOthersSay) {
  run();
  using Verdict = RankSuspected::Verdict;
  EXPECT_THAT(hear(1, 1, RankSuspected{2, Verdict::kWarned, "is silent"}),
              IsEmpty());
  EXPECT_THAT(hear(1, 1, RankSuspected{2, Verdict::kHung, "hangs"}), IsEmpty());
  EXPECT_EQ(said_, "rank 2 is silent\nrank 2 hangs\n");
  RankEnding lost = left(0, kExitInternal);
  lost.lost = true;
  exited(1, lost);
  RankEnding hung = left(2, kExitPreempted);
  hung.hung = hung.stopped = true;
  exited(1, hung);
  EXPECT_THAT(later(seconds(1)), ElementsAre("0<stop 1", "1<stop 1"));
  checkpoint_seen(state_, 40);
  empty(0, 1);
  EXPECT_THAT(empty(1, 1), ElementsAre("0<open 2"));
  EXPECT_EQ(state_.restarted.at(0).rank, 2);
  EXPECT_THAT(said_, HasSubstr("rank 2 hung: it came no further"));
}

TEST_F(JobStateTest, SavingAndAskingGoToAllAgentsOnceRanksRun) {
  EXPECT_THAT(texts(save_requested(state_, now_)), IsEmpty());
  EXPECT_THAT(said_, HasSubstr("NEW: there is nothing to save"));
  EXPECT_THAT(texts(inspect_requested(state_, now_)), IsEmpty());
  run();
  EXPECT_THAT(texts(save_requested(state_, now_)),
              ElementsAre("0<save 1", "1<save 1"));
  said_.clear();
  EXPECT_THAT(texts(inspect_requested(state_, now_)),
              ElementsAre("0<inspect 1", "1<inspect 1"));
  EXPECT_THAT(said_, HasSubstr("RUNNING, generation 1, step 0"));
}

}  // namespace
}  // namespace catena::launcher
