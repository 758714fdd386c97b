#include "training/metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <csignal>
#include <fstream>

#include "runtime/base/error.h"
#include "runtime/base/files.h"
#include "tests/support/json.h"

namespace catena {
namespace {

StepReport example() {
  StepReport report;
  report.step = 7;
  report.steps = 100;
  report.loss = 2.5;
  report.tokens = 1000;
  report.seconds = 0.5;
  report.flops = 3e9;
  report.peak_flops = 12e9;
  report.routes = {{{.load = {1, 1}, .tokens = 2},
                    {.load = {4, 0}, .tokens = 4, .entropy_nats = 0.25}}};
  return report;
}

TEST(MetricsTest, HumanNumbersKeepThreeDigits) {
  EXPECT_EQ(human_number(7), "7");
  EXPECT_EQ(human_number(999.4), "999");
  EXPECT_EQ(human_number(999.6), "1.00k");
  EXPECT_EQ(human_number(9840), "9.84k");
  EXPECT_EQ(human_number(98400), "98.4k");
  EXPECT_EQ(human_number(1.234e9), "1.23G");
  EXPECT_EQ(human_seconds(3725), "1h02m");
  EXPECT_EQ(human_seconds(187), "3m07s");
  EXPECT_EQ(human_bytes(std::int64_t{612} << 20), "612 MiB");
  EXPECT_EQ(human_bytes(std::int64_t{3} << 29), "1.5 GiB");
}

TEST(MetricsTest, ProgressNamesTheWorstRouter) {
  const std::string text = progress_text(example());
  EXPECT_THAT(text, testing::HasSubstr("step   7/100  loss 2.5000"));
  EXPECT_THAT(text, testing::HasSubstr("2.00k tok/s  mfu 50%"));
  EXPECT_THAT(text, testing::HasSubstr("experts 2.00 L0i1"));
}

TEST(MetricsTest, RoutesThatWereNotChosenAreMarked) {
  StepReport report = example();
  for (const char* mark : {"FORCED BALANCED", "ROUTES REPLAYED"}) {
    EXPECT_THAT(progress_text(report), testing::Not(testing::HasSubstr(mark)));
  }
  report.forced_balanced = true;
  EXPECT_THAT(progress_text(report), testing::HasSubstr("FORCED BALANCED"));
  report.forced_balanced = false;
  report.replayed = true;
  EXPECT_THAT(progress_text(report), testing::HasSubstr("ROUTES REPLAYED"));
}

TEST(MetricsTest, UnknownPeakIsNotGuessed) {
  StepReport report = example();
  report.peak_flops = 0;
  EXPECT_THAT(progress_text(report), testing::HasSubstr("mfu n/a"));
}

TEST(MetricsTest, LinesAreJsonWithTheDocumentedNames) {
  const std::filesystem::path folder =
      std::filesystem::path(testing::TempDir()) /
      fmt::format("metrics-{}", ::getpid());
  std::filesystem::create_directories(folder);
  {
    MetricsWriter writer(folder);
    writer.write_step(example());
    writer.write_validation(7, 2.25, 500);
  }
  std::ifstream file(folder / "metrics.jsonl");
  std::string line;
  ASSERT_TRUE(std::getline(file, line));
  const auto step = json_of(line);
  EXPECT_EQ(step["catena_step"], 7);
  EXPECT_EQ(step["catena_loss"]["train"], 2.5);
  EXPECT_EQ(step["catena_mfu_ratio"], 0.5);
  EXPECT_EQ(step["catena_experts_idle"][0][1], 1);
  EXPECT_EQ(step["catena_expert_load_max_to_mean_ratio"][0][1], 2.0);
  EXPECT_EQ(step["catena_router_entropy_nats"][0][1], 0.25);
  ASSERT_TRUE(std::getline(file, line));
  EXPECT_EQ(json_of(line)["catena_loss"]["validation"], 2.25);
  std::filesystem::remove_all(folder);
}

/// As a full disk: a line of one file is cut short, the other has room.
TEST(MetricsTest, ALineAfterATornOneBeginsAnewInItsOwnFile) {
  const std::filesystem::path folder =
      std::filesystem::path(testing::TempDir()) /
      fmt::format("metrics-torn-{}", ::getpid());
  std::filesystem::create_directories(folder);
  const auto backend = make_cpu_backend(1);
  const RoutingStatistics statistics(*backend, DType::kFloat32, 1, 1, 2, 1);
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto at_signal = std::signal(SIGXFSZ, SIG_IGN);
  {
    MetricsWriter writer(folder);
    for (int step = 1; step <= 9; ++step) writer.write_validation(step, 2, 500);
    const rlimit limit{
        std::filesystem::file_size(folder / "metrics.jsonl") + 10,
        before.rlim_max};
    ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &limit), 0);
    writer.write_validation(10, 2, 500);
    writer.write_routing(10, statistics);
    ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
    writer.write_validation(11, 2, 500);
  }
  std::signal(SIGXFSZ, at_signal);
  std::ifstream file(folder / "metrics.jsonl");
  std::vector<std::string> lines;
  for (std::string line; std::getline(file, line);) lines.push_back(line);
  ASSERT_EQ(lines.size(), 11U);
  EXPECT_EQ(lines[9].size(), 10U);
  EXPECT_EQ(json_of(lines[10])["catena_step"], 11);
  EXPECT_EQ(json_of(read_file(folder / "routing.jsonl"))["step"], 10);
  std::filesystem::remove_all(folder);
}

TEST(MetricsTest, WhatWillBeToldAgainIsDropped) {
  const std::filesystem::path folder =
      std::filesystem::path(testing::TempDir()) /
      fmt::format("metrics-kept-{}", ::getpid());
  std::filesystem::create_directories(folder);
  const auto kept = [&](std::int64_t step) {
    write_file_atomically(folder / "metrics.jsonl",
                          "{\"catena_step\":0}\n{\"catena_step\":1}\n"
                          "{\"catena_step\":2}\n{\"catena_ste");
    keep_metrics_up_to(step, folder);
    return read_file(folder / "metrics.jsonl");
  };
  EXPECT_EQ(kept(1), "{\"catena_step\":0}\n{\"catena_step\":1}\n");
  EXPECT_EQ(kept(0), "");
  std::filesystem::remove_all(folder);
}

TEST(MetricsTest, AnUnwritableFolderIsNamed) {
  try {
    MetricsWriter writer("/nonexistent/run");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kIo);
    EXPECT_THAT(error.what(), testing::HasSubstr("/nonexistent/run"));
  }
}

}  // namespace
}  // namespace catena
