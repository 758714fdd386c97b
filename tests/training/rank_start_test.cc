#include "training/rank_start.h"

#include <gmock/gmock.h>

#include <filesystem>
#include <map>

#include "parallel/gloo/transport.h"
#include "parallel/mpi/transport.h"
#include "runtime/base/error.h"
#include "runtime/base/files.h"

namespace catena {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using Kind = RankStart::Kind;
using Variables = std::map<std::string, std::string>;

const Variables kSecret = {{"CATENA_TOKEN", "0123456789abcdef"}};

RankStart plan(const RankOptions& options, const std::string& transport,
               const Variables& variables = {}) {
  return plan_ranks(options, transport, [&](const char* name) -> const char* {
    const auto at = variables.find(name);
    return at == variables.end() ? nullptr : at->second.c_str();
  });
}

/// What is said of it, and as what kind.
void expect_refused(ErrorKind kind, const std::string& words,
                    const RankOptions& options, const std::string& transport,
                    const Variables& variables = {}) {
  try {
    (void)plan(options, transport, variables);
    ADD_FAILURE() << "not refused: " << words;
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), kind) << error.what();
    EXPECT_THAT(error.what(), HasSubstr(words));
  }
}

RankOptions told(int rank = 1, int size = 2) {
  return {.rank = rank, .world_size = size, .rendezvous = "10.0.0.1:29500"};
}

TEST(RankStartTest, OneRankNeedsNothing) {
  for (const char* transport : {"auto", "shared_memory", "gloo"}) {
    for (const int ranks : {0, 1}) {
      EXPECT_EQ(plan({.ranks = ranks}, transport).kind, Kind::kAlone);
    }
    EXPECT_EQ(plan({}, transport, {{"OMPI_COMM_WORLD_SIZE", "1"}}).kind,
              Kind::kAlone);
  }
}

TEST(RankStartTest, ProcessesOfOneParentShareMemoryUnlessTold) {
  if (!gloo::available()) GTEST_SKIP() << "built without Gloo";
  for (const auto& [transport, wire] : {std::pair{"auto", Wire::kSharedMemory},
                                        {"shared_memory", Wire::kSharedMemory},
                                        {"gloo", Wire::kGloo}}) {
    const RankStart start = plan({.ranks = 4}, transport);
    EXPECT_EQ(start.kind, Kind::kForked);
    EXPECT_EQ(start.wire, wire);
    EXPECT_EQ(start.ranks, 4);
  }
}

TEST(RankStartTest, AnAddressMeansGloo) {
  if (!gloo::available()) GTEST_SKIP() << "built without Gloo";
  const RankStart start = plan(told(), "auto", kSecret);
  EXPECT_EQ(start.kind, Kind::kMeeting);
  EXPECT_EQ(start.wire, Wire::kGloo);
  EXPECT_EQ(start.rank, 1);
  EXPECT_EQ(start.ranks, 2);
  EXPECT_EQ(start.store.host, "10.0.0.1");
  EXPECT_EQ(start.store.port, 29500);
  EXPECT_EQ(start.token, "0123456789abcdef");
  EXPECT_EQ(plan(told(), "shared_memory", kSecret).wire, Wire::kSharedMemory);
}

TEST(RankStartTest, WhoStartsARankMaySayWhereItIs) {
  Variables variables = kSecret;
  EXPECT_EQ(plan(told(), "shared_memory", variables).node, "");
  variables["CATENA_NODE"] = "rack 3";
  EXPECT_EQ(plan(told(), "shared_memory", variables).node, "rack 3");
}

TEST(RankStartTest, TheFileOfTheTokenWins) {
  const auto file = std::filesystem::path(testing::TempDir()) / "a-token";
  write_file_atomically(file, "fedcba9876543210\n");
  RankOptions options = told();
  options.token_file = file.string();
  EXPECT_EQ(plan(options, "shared_memory", kSecret).token, "fedcba9876543210");
  std::filesystem::remove(file);
  expect_refused(ErrorKind::kData, "a-token", options, "shared_memory");
}

TEST(RankStartTest, MpirunMeansMpi) {
  if (!mpi::available()) GTEST_SKIP() << "built without Open MPI";
  for (const Variables& variables :
       {Variables{{"OMPI_COMM_WORLD_SIZE", "4"}},
        {{"PMIX_RANK", "0"}, {"SLURM_NTASKS", "4"}},
        {{"PMIX_RANK", "0"}}}) {
    EXPECT_EQ(plan({}, "auto", variables).kind, Kind::kMpi);
    EXPECT_EQ(plan({}, "mpi", variables).kind, Kind::kMpi);
  }
  EXPECT_EQ(plan({.ranks = 4}, "auto", {{"OMPI_COMM_WORLD_SIZE", "4"}}).kind,
            Kind::kMpi);
}

TEST(RankStartTest, OthersThatStartProcessesSayWhichRankEachIs) {
  if (!gloo::available()) GTEST_SKIP() << "built without Gloo";
  for (Variables variables :
       {Variables{{"RANK", "1"}, {"WORLD_SIZE", "4"}},
        {{"PMI_RANK", "1"}, {"PMI_SIZE", "4"}},
        {{"SLURM_PROCID", "1"}, {"SLURM_STEP_NUM_TASKS", "4"}},
        {{"OMPI_COMM_WORLD_RANK", "1"}, {"OMPI_COMM_WORLD_SIZE", "4"}},
        {{"RANK", "1"},
         {"WORLD_SIZE", "4"},
         {"SLURM_PROCID", "0"},
         {"SLURM_STEP_NUM_TASKS", "2"}}}) {
    variables.insert(kSecret.begin(), kSecret.end());
    variables["MASTER_ADDR"] = "10.0.0.1";
    variables["MASTER_PORT"] = "29500";
    const RankStart start = plan({}, "gloo", variables);
    EXPECT_EQ(start.kind, Kind::kMeeting);
    EXPECT_EQ(start.rank, 1);
    EXPECT_EQ(start.ranks, 4);
    EXPECT_EQ(start.store.host, "10.0.0.1");
    EXPECT_EQ(start.store.port, 29500);
    variables["MASTER_ADDR"] = "fd00::3";
    EXPECT_EQ(plan({}, "gloo", variables).store.host, "fd00::3");
    // What Catena itself is told comes first.
    EXPECT_EQ(plan(told(0, 3), "gloo", variables).ranks, 3);
    EXPECT_EQ(plan(told(0, 3), "gloo", variables).store.host, "10.0.0.1");
  }
}

TEST(RankStartTest, AJobsScriptIsNoRank) {
  const Variables script = {{"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "8"}};
  EXPECT_EQ(plan({}, "auto", script).kind, Kind::kAlone);
  EXPECT_EQ(plan({}, "auto", {{"RANK", "0"}, {"WORLD_SIZE", "1"}}).kind,
            Kind::kAlone);
  EXPECT_EQ(plan({}, "auto", {{"RANK", "3"}}).kind, Kind::kAlone);
}

TEST(RankStartTest, AnIndexedJobSaysWhichOfTheRanksAPodIs) {
  if (!gloo::available()) GTEST_SKIP() << "built without Gloo";
  Variables variables = kSecret;
  variables["JOB_COMPLETION_INDEX"] = "2";
  EXPECT_EQ(plan(told(-1, 4), "gloo", variables).rank, 2);
  EXPECT_EQ(plan(told(1, 4), "gloo", variables).rank, 1);
  variables["JOB_COMPLETION_INDEX"] = "0";
  EXPECT_EQ(plan(told(-1, 1), "gloo", variables).rank, 0);
  EXPECT_EQ(plan({}, "auto", variables).kind, Kind::kAlone);
}

TEST(RankStartTest, WhatNamesARankAndIsNoNumberIsRefused) {
  for (const char* rank : {"", "x", "-1", "1 ", "99999999999"}) {
    expect_refused(ErrorKind::kConfig, "RANK is \"", {}, "auto",
                   {{"RANK", rank}, {"WORLD_SIZE", "4"}});
  }
  expect_refused(ErrorKind::kConfig, "WORLD_SIZE is \"0\"", {}, "auto",
                 {{"RANK", "0"}, {"WORLD_SIZE", "0"}});
}

TEST(RankStartTest, WhatContradictsItselfIsRefused) {
  const Variables four = {{"OMPI_COMM_WORLD_SIZE", "4"}};
  expect_refused(ErrorKind::kUsage, "neither mpirun nor srun", {.ranks = 4},
                 "mpi");
  expect_refused(ErrorKind::kUsage, "4 processes were started", {.ranks = 2},
                 "auto", four);
  expect_refused(ErrorKind::kUsage, "does not join them by itself", {}, "gloo",
                 four);
  RankOptions both = told();
  both.ranks = 3;
  expect_refused(ErrorKind::kUsage, "leave --ranks out", both, "gloo", kSecret);
  expect_refused(ErrorKind::kUsage, "ranks go from 0 to 1", told(2), "gloo",
                 kSecret);
}

TEST(RankStartTest, WhatIsMissingIsNamed) {
  RankOptions options = told();
  options.rank = -1;
  expect_refused(ErrorKind::kUsage, "CATENA_RANK (--rank)", options, "gloo");
  options = told();
  options.world_size = 0;
  expect_refused(ErrorKind::kUsage, "CATENA_WORLD_SIZE (--world-size)", options,
                 "gloo");
  options = told();
  options.rendezvous = "";
  expect_refused(ErrorKind::kUsage, "CATENA_RENDEZVOUS (--rendezvous)", options,
                 "gloo");
  expect_refused(ErrorKind::kUsage, "set CATENA_TOKEN", told(), "gloo");
}

TEST(RankStartTest, BadAddressesAndTokensAreRefused) {
  RankOptions options = told();
  options.rendezvous = "10.0.0.1";
  expect_refused(ErrorKind::kConfig, "CATENA_RENDEZVOUS: \"10.0.0.1\" is no",
                 options, "gloo", kSecret);
  expect_refused(ErrorKind::kConfig, "a token of 5 bytes can be guessed",
                 told(), "gloo", {{"CATENA_TOKEN", "short"}});
}

TEST(RankStartTest, WhatALauncherStartsCarriesItsJob) {
  const auto job = [](const char* name) {
    Variables variables = kSecret;
    variables["CATENA_JOB_ID"] = name;
    return plan(told(), "shared_memory", variables).job;
  };
  EXPECT_EQ(job("0a1B"), "0a1B");
  EXPECT_EQ(job("../x"), "") << "it becomes part of a file's name";
  EXPECT_EQ(plan(told(), "shared_memory", kSecret).job, "");
}

}  // namespace
}  // namespace catena
