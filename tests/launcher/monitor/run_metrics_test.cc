#include "launcher/monitor/run_metrics.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "launcher/monitor/run_reader.h"
#include "tests/launcher/monitor/run_files.h"

namespace catena::launcher {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr std::chrono::milliseconds kLong(60000);
constexpr double kNow = 4e9;

std::string metrics_of(const RunFiles& files) {
  RunReader reader(files.path());
  reader.refresh(kLong);
  return RunMetrics().text(reader.view(), kNow);
}

TEST(RunMetricsTest, SaysWhatIsKnownUnderTheNamesOfTheDocumentation) {
  const RunFiles files;
  files.write_run();
  EXPECT_THAT(
      metrics_of(files),
      AllOf(HasSubstr("# TYPE catena_step gauge\ncatena_step 10\n"),
            HasSubstr("catena_job_state{state=\"RUNNING\"} 1\n"),
            HasSubstr("catena_job_state{state=\"FAILED\"} 0\n"),
            HasSubstr("catena_generation 2\n"),
            HasSubstr("catena_restarts_total{cause=\"signal_9\"} 1\n"),
            HasSubstr("catena_tokens_total 1000\n"),
            HasSubstr("catena_loss{kind=\"train\"} -2\n"),
            HasSubstr("catena_loss{kind=\"validation\"} 4.5\n"),
            HasSubstr("catena_expert_load_max_to_mean_ratio{layer=\"1\","
                      "iteration=\"1\"} 3.5\n"),
            HasSubstr("catena_straggler_score_ratio{rank=\"1\"} 2\n")));
  EXPECT_THAT(
      metrics_of(files),
      AllOf(
          HasSubstr("catena_all_to_all_seconds_total{rank=\"1\","
                    "kind=\"exposed\"} 1.25\n"),
          HasSubstr("catena_all_to_all_bytes_total{rank=\"0\","
                    "direction=\"sent\",scope=\"inter\"} 4000\n"),
          HasSubstr("catena_step_duration_seconds_count{rank=\"0\"} 10\n"),
          HasSubstr("catena_step_duration_seconds_bucket{rank=\"0\","
                    "le=\"+Inf\"} 10\n"),
          HasSubstr("catena_model_flops_total 20000000000\n"),
          HasSubstr("catena_memory_bytes{rank=\"1\",kind=\"host\"} 1048576\n"),
          HasSubstr("catena_checkpoint_bytes_total 5000\n"),
          HasSubstr("catena_checkpoint_last_step 10\n"),
          HasSubstr("catena_checkpoint_interval_steps 5\n"),
          HasSubstr("catena_productive_seconds_total 6.25\n")));
}

TEST(RunMetricsTest, WhoTheLauncherTurnedAwayIsCountedByReason) {
  const RunFiles files;
  files.write_run();
  EXPECT_THAT(
      metrics_of(files),
      AllOf(HasSubstr("# TYPE catena_control_connections_rejected_total "
                      "counter\n"),
            HasSubstr("catena_control_connections_rejected_total{"
                      "reason=\"proof\"} 0\n"),
            HasSubstr("catena_control_connections_rejected_total{"
                      "reason=\"protocol\"} 3\n"),
            HasSubstr("catena_control_stale_messages_total 2\n")));
  // Of a launcher that nobody can connect to, and of one that says neither.
  for (const char* control :
       {R"({"connections_rejected":{},"stale_messages":0})", "{}", "7",
        R"({"connections_rejected":[1],"stale_messages":"x"})"}) {
    files.replace(
        "job.json",
        fmt::format(R"({{"state":"RUNNING","generation":1,"control":{}}})",
                    control));
    EXPECT_THAT(metrics_of(files), AllOf(Not(HasSubstr("connections_rejected")),
                                         HasSubstr("catena_generation 1\n")));
  }
}

TEST(RunMetricsTest, WhatRestartsTookAndLostIsOfTheJournal) {
  const RunFiles files;
  files.write_run();
  EXPECT_THAT(
      metrics_of(files),
      AllOf(HasSubstr("# TYPE catena_recovery_duration_seconds histogram\n"),
            HasSubstr("recovery_duration_seconds_sum{phase=\"stop\"} 2.5\n"),
            HasSubstr("recovery_duration_seconds_sum{phase=\"start\"} 1\n"),
            HasSubstr("recovery_duration_seconds_count{phase=\"start\"} 1\n"),
            HasSubstr("# TYPE catena_lost_steps_total counter\n"
                      "catena_lost_steps_total 2\n")));
}

TEST(RunMetricsTest, TheProcessThatAnswersSaysWhatItTakes) {
  const RunFiles files;
  EXPECT_THAT(
      metrics_of(files),
      AllOf(HasSubstr("# TYPE catena_process_cpu_seconds_total counter\n"),
            HasSubstr("\ncatena_process_resident_memory_bytes "),
            Not(HasSubstr("\ncatena_process_resident_memory_bytes 0\n"))));
}

TEST(RunMetricsTest, ARunThatHasNotBegunHasItsState) {
  const RunFiles files;
  EXPECT_THAT(metrics_of(files),
              AllOf(HasSubstr("catena_build_info{version="),
                    HasSubstr("catena_job_state{state=\"RUNNING\"} 1\n"),
                    Not(HasSubstr("catena_step ")),
                    Not(HasSubstr("catena_generation"))));
}

TEST(RunMetricsTest, TheFailureThatEndedAJobCountsAndARestartsCountsOnce) {
  const RunFiles files;
  files.write_run();
  for (const char* state : {"SUCCEEDED", "FAILED"}) {
    std::string job = RunFiles::job(state);
    const std::string none = "\"first_failure\":null";
    job.replace(job.find(none), none.size(),
                "\"first_failure\":{\"rank\":0,\"signal\":9,\"code\":0}");
    files.replace("job.json", job);
    EXPECT_THAT(metrics_of(files),
                HasSubstr(fmt::format(
                    "catena_rank_failures_total{{cause=\"signal_9\"}} {}\n",
                    std::string(state) == "FAILED" ? 2 : 1)));
  }
}

TEST(RunMetricsTest, CountersDoNotFallWhenStepsAreTakenBack) {
  const RunFiles files;
  files.write_run();
  RunReader reader(files.path());
  RunMetrics metrics;
  reader.refresh(kLong);
  (void)metrics.text(reader.view(), kNow);
  files.replace("metrics.jsonl", RunFiles::step(1) + RunFiles::step(2));
  reader.refresh(kLong);
  EXPECT_THAT(metrics.text(reader.view(), kNow),
              AllOf(HasSubstr("catena_step 2\n"),
                    HasSubstr("catena_tokens_total 1000\n"),
                    HasSubstr("catena_productive_seconds_total 6.25\n"),
                    HasSubstr("duration_seconds_count{rank=\"0\"} 10\n")));
}

TEST(RunMetricsTest, PromtoolFindsNothingWrong) {
  if (std::system("command -v promtool > /dev/null 2>&1") != 0) {
    GTEST_SKIP() << "promtool is not installed (Debian: prometheus)";
  }
  const RunFiles files;
  files.write_run();
  files.replace("metrics.txt", metrics_of(files));
  const std::string command =
      "promtool check metrics < " + (files.path() / "metrics.txt").string();
  EXPECT_EQ(std::system(command.c_str()), 0);
}

}  // namespace
}  // namespace catena::launcher
