#include "launcher/restart_policy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>

#include "launcher/contract.h"

namespace catena::launcher {
namespace {

using std::chrono::seconds;
using ::testing::HasSubstr;

RankEnding ended(int code, bool done = false) {
  return {.process = 1, .code = code, .done = done};
}

TEST(RestartPolicyTest, WhatIsAFailure) {
  EXPECT_FALSE(is_failure(ended(0, true)));
  EXPECT_FALSE(is_failure(ended(kExitPreempted)));
  EXPECT_TRUE(is_failure(ended(0))) << "before its work was done";
  EXPECT_TRUE(is_failure(ended(1, true)));
  EXPECT_TRUE(is_failure({.signal = SIGSEGV, .done = true}));
}

TEST(RestartPolicyTest, TheFirstCauseIsWhoEndedByItself) {
  const RankEnding asked{
      .rank = 0, .process = 1, .signal = SIGTERM, .stopped = true};
  const RankEnding lost{.rank = 1, .process = 1, .code = 70, .lost = true};
  const RankEnding killed{.rank = 2, .process = 1, .signal = SIGKILL};
  const RankEnding later{.rank = 3, .process = 1, .code = 3};
  const RankEnding well{.rank = 4, .process = 1, .done = true};
  const RankEnding hung{.rank = 5,
                        .process = 1,
                        .signal = SIGKILL,
                        .stopped = true,
                        .hung = true};
  struct Row {
    std::vector<RankEnding> endings;
    int rank;
  };
  for (const Row& row : {Row{{asked, lost, killed, later}, 2},
                         {{later, killed}, 3},
                         {{asked, lost}, 1},
                         {{asked, lost, hung}, 5},
                         {{hung, killed}, 2},
                         {{well, asked}, 0},
                         {{well}, -1},
                         {{}, -1}}) {
    const auto first = first_cause(row.endings);
    EXPECT_EQ(first ? first->rank : -1, row.rank);
  }
}

TEST(RestartPolicyTest, WhereOthersMissedItIsPartOfTheCause) {
  const RankEnding killed{.rank = 1, .process = 1, .signal = SIGKILL};
  const RankEnding silent{.rank = 0, .process = 1, .code = 70, .lost = true};
  const RankEnding waited{.rank = 3,
                          .process = 1,
                          .signal = SIGTERM,
                          .stopped = true,
                          .waits_for = 1,
                          .waits_in = "c (plan)"};
  const auto lost = [](int rank, int waits_for, const char* in) {
    return RankEnding{.rank = rank,
                      .process = 1,
                      .code = 70,
                      .lost = true,
                      .waits_for = waits_for,
                      .waits_in = in};
  };
  struct Row {
    std::vector<RankEnding> endings;
    const char* exchange;
  };
  for (const Row& row :
       {Row{{killed, lost(2, -1, "barrier (control)")}, "barrier (control)"},
        {{killed, lost(2, 3, "a (plan)"), lost(3, 1, "b (plan)")}, "b (plan)"},
        {{killed, waited, lost(2, -1, "b (plan)")}, "b (plan)"},
        {{killed, waited}, "c (plan)"},
        {{killed, silent}, ""},
        {{killed}, ""}}) {
    EXPECT_EQ(first_cause(row.endings)->exchange, row.exchange);
  }
}

TEST(RestartPolicyTest, TheOneThatMostWaitedForIsTheCause) {
  const auto lost = [](int rank, int waits_for) {
    return RankEnding{.rank = rank,
                      .process = 1,
                      .code = 70,
                      .lost = true,
                      .waits_for = waits_for};
  };
  const RankEnding silent{.rank = 3,
                          .process = 1,
                          .signal = SIGKILL,
                          .stopped = true,
                          .step = 7,
                          .section = "step"};
  struct Row {
    const char* what;
    std::vector<RankEnding> endings;
    int rank;
  };
  for (const Row& row :
       {Row{"all", {lost(0, 3), lost(1, 3), lost(2, 3), silent}, 3},
        {"most", {lost(0, 1), lost(1, 3), lost(2, 3), silent}, 3},
        {"in a row", {lost(0, 1), lost(1, 2), lost(2, 3), silent}, 3},
        {"one through another", {lost(2, 0), lost(0, 3), silent}, 3},
        {"one says whom", {lost(2, -1), lost(0, 3), silent}, 3},
        {"half", {lost(0, 3), lost(1, 9), silent}, 0},
        {"most, then in a row",
         {lost(0, 2), lost(1, 2), lost(2, 3), silent},
         3},
        {"of two", {lost(0, 3), silent}, 3},
        {"nobody says whom", {lost(0, -1), lost(1, -1), silent}, 0},
        {"each other", {lost(0, 1), lost(1, 0), silent}, 0},
        {"a rank that is not there", {lost(0, 9), lost(1, 9), silent}, 0}}) {
    EXPECT_EQ(first_cause(row.endings)->rank, row.rank) << row.what;
  }
  const auto cause = first_cause(std::vector{lost(0, 3), lost(1, 3), silent});
  EXPECT_EQ(cause->text,
            "did not answer, and rank 0, 1 waited for it (section step, after "
            "step 7)");
  EXPECT_EQ(cause->code, kExitInternal);
}

TEST(RestartPolicyTest, RanksThatWaitedForEachOtherAreBothNamed) {
  const RankEnding home{.rank = 0,
                        .process = 1,
                        .signal = SIGTERM,
                        .lost = true,
                        .stopped = true,
                        .waits_for = 1};
  RankEnding one{.rank = 1,
                 .process = 1,
                 .code = 70,
                 .lost = true,
                 .step = 7,
                 .section = "step",
                 .waits_for = 2};
  RankEnding other{.rank = 2,
                   .process = 1,
                   .signal = SIGTERM,
                   .stopped = true,
                   .waits_for = 1};
  for (const bool both : {false, true}) {
    if (both) other.lost = true;
    const auto cause = first_cause(std::vector{home, one, other});
    ASSERT_TRUE(cause);
    EXPECT_EQ(cause->rank, 1);
    EXPECT_EQ(cause->code, kExitInternal);
    EXPECT_EQ(cause->text,
              "waited for rank 2, and rank 2 for it: what they send does not "
              "reach the other; look at the network between them (section "
              "step, after step 7)");
  }
  // It waits for nobody: it does not answer.
  other.waits_for = -1;
  EXPECT_EQ(first_cause(std::vector{one, other})->rank, 2);
}

TEST(RestartPolicyTest, WhatACauseIsCalled) {
  const Cause killed = cause_of({.rank = 2, .process = 1, .signal = SIGKILL});
  EXPECT_EQ(killed.code, 137);
  EXPECT_EQ(killed.text, "was killed by signal 9 (Killed)");
  EXPECT_EQ(cause_of(ended(3)).code, 3);
  EXPECT_EQ(cause_of(ended(0)).code, kExitInternal);
  EXPECT_THAT(cause_of(ended(0)).text, HasSubstr("before its work was done"));
  EXPECT_EQ(cause_of({.code = kExitNotFound}).text, "could not be started");
  const Cause hung = cause_of({.process = 1,
                               .code = kExitPreempted,
                               .stopped = true,
                               .hung = true,
                               .step = 4,
                               .section = "step",
                               .silent_seconds = 60});
  EXPECT_EQ(hung.text,
            "hung: it came no further for 60 s (section step, after step 4)");
  EXPECT_TRUE(may_go_well(hung.code));
  EXPECT_TRUE(is_failure(hung.ending)) << "whatever it did at last";
}

TEST(RestartPolicyTest, WhichCodesMayGoWellAnotherTime) {
  for (const int code : {1, 2, 63, 66, 69, 70, 79, 134, 137, 139}) {
    EXPECT_TRUE(may_go_well(code)) << code;
  }
  for (const int code : {64, 65, 71, 74, 76, 77, 78, 93, 126, 127}) {
    EXPECT_FALSE(may_go_well(code)) << code;
  }
}

const Cause kKilled = cause_of({.rank = 1, .process = 1, .signal = SIGKILL});

TEST(RestartPolicyTest, ProgressIsRestartedAtOnceUpToTheBudget) {
  RestartPolicy policy{.most_restarts = 5};
  for (int i = 1; i <= 5; ++i) {
    const Verdict verdict = judge(policy, kKilled, 10 * i);
    EXPECT_TRUE(verdict.restart);
    EXPECT_EQ(verdict.wait, Duration());
  }
  const Verdict last = judge(policy, kKilled, 60);
  EXPECT_FALSE(last.restart);
  EXPECT_EQ(last.code, 137);
  EXPECT_EQ(last.why, "all 5 restarts are used up");
  EXPECT_EQ(policy.restarts, 5);
}

TEST(RestartPolicyTest, WithoutProgressItWaitsLongerAndThenGivesUp) {
  RestartPolicy policy{.most_restarts = 100, .most_without_progress = 8};
  for (const int wait : {1, 2, 4, 8, 16, 30, 30}) {
    const Verdict verdict = judge(policy, kKilled, 0);
    EXPECT_TRUE(verdict.restart);
    EXPECT_EQ(verdict.wait, seconds(wait));
  }
  const Verdict last = judge(policy, kKilled, 0);
  EXPECT_FALSE(last.restart);
  EXPECT_EQ(last.code, kExitNoProgress);
  EXPECT_THAT(last.why, HasSubstr("8 starts in a row made no checkpoint"));
}

TEST(RestartPolicyTest, ProgressForgivesWhatWasBefore) {
  RestartPolicy policy{.most_restarts = 100};
  EXPECT_TRUE(judge(policy, kKilled, 0).restart);
  EXPECT_TRUE(judge(policy, kKilled, 0).restart);
  EXPECT_TRUE(judge(policy, kKilled, 10).restart);
  EXPECT_TRUE(judge(policy, kKilled, 10).restart);
  EXPECT_TRUE(judge(policy, kKilled, 10).restart);
  EXPECT_EQ(judge(policy, kKilled, 10).code, kExitNoProgress);
}

TEST(RestartPolicyTest, NoBudgetKeepsTheRanksOwnCode) {
  RestartPolicy policy{.most_restarts = 0};
  const Verdict verdict = judge(policy, cause_of(ended(3)), 0);
  EXPECT_FALSE(verdict.restart);
  EXPECT_EQ(verdict.code, 3);
  EXPECT_THAT(verdict.why, HasSubstr("--max-restarts 0"));
}

TEST(RestartPolicyTest, WhatWouldBeMetAgainIsNotTriedAgain) {
  RestartPolicy policy{.most_restarts = 5};
  const Verdict verdict = judge(policy, cause_of(ended(kExitConfig)), 100);
  EXPECT_FALSE(verdict.restart);
  EXPECT_EQ(verdict.code, kExitConfig);
  EXPECT_EQ(policy.restarts, 0);
}

}  // namespace
}  // namespace catena::launcher
