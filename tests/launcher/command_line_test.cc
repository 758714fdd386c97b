#include "launcher/command_line.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>

#include "launcher/commands/trainer.h"
#include "launcher/contract.h"
#include "tests/launcher/no_threads.h"

namespace catena::launcher {
namespace {

using ::testing::HasSubstr;
using ::testing::internal::CaptureStderr;
using ::testing::internal::CaptureStdout;
using ::testing::internal::GetCapturedStderr;
using ::testing::internal::GetCapturedStdout;

struct Said {
  int code;
  std::string output, error;
};

Said say(const std::vector<std::string>& arguments) {
  CaptureStdout();
  CaptureStderr();
  const int code = run(arguments);
  return {code, GetCapturedStdout(), GetCapturedStderr()};
}

TEST(CommandLineTest, HelpListsEveryCommandOnALineOfItsOwn) {
  for (const char* asked : {"--help", "-h", "help"}) {
    const Said said = say({asked});
    EXPECT_EQ(said.code, kExitSuccess);
    EXPECT_EQ(said.error, "");
    for (const TrainerCommand& command : trainer_commands()) {
      EXPECT_THAT(said.output, ::testing::ContainsRegex(
                                   "\n  " + std::string(command.name) + " +" +
                                   std::string(command.summary) + "\n"));
    }
    EXPECT_THAT(said.output, HasSubstr("Examples:\n  catena train configs/"));
  }
}

TEST(CommandLineTest, VersionIsOneLine) {
  const Said said = say({"--version"});
  EXPECT_EQ(said.code, kExitSuccess);
  EXPECT_THAT(said.output,
              ::testing::MatchesRegex("catena [0-9]+[.][0-9]+[.][0-9]+\n"));
}

TEST(CommandLineTest, WhatNobodyForesawIsSaidAndHasACode) {
  std::string name = ::testing::TempDir() + "runXXXXXX";
  const std::filesystem::path run = ::mkdtemp(name.data());
  std::ofstream(run / "config.toml") << "[train]\n";
  {
    const NoThreads none;
    const Said said = say({"dashboard", run.string()});
    EXPECT_EQ(said.code, kExitInternal);
    EXPECT_THAT(said.error, HasSubstr("catena: Resource temporarily"));
  }
  std::filesystem::remove_all(run);
}

TEST(CommandLineTest, NoCommandShowsTheHelpAsAnError) {
  const Said said = say({});
  EXPECT_EQ(said.code, kExitUsage);
  EXPECT_EQ(said.output, "");
  EXPECT_THAT(said.error, HasSubstr("Commands:\n"));
}

TEST(CommandLineTest, UnknownCommandNamesTheNearest) {
  const Said near = say({"trian", "a.toml"});
  EXPECT_EQ(near.code, kExitUsage);
  EXPECT_EQ(near.error, "catena: unknown command trian; did you mean train?\n");
  EXPECT_EQ(near.output, "");
  EXPECT_EQ(say({"zzzzzzzzz"}).error,
            "catena: unknown command zzzzzzzzz; \"catena --help\" lists the "
            "commands\n");
}

TEST(CommandLineTest, UnknownOptionNamesTheNearest) {
  const Said said = say({"--verison"});
  EXPECT_EQ(said.code, kExitUsage);
  EXPECT_EQ(said.error,
            "catena: unknown option --verison; did you mean --version?\n");
}

}  // namespace
}  // namespace catena::launcher
