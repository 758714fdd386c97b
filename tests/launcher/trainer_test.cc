#include "launcher/commands/trainer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <thread>

#include "launcher/contract.h"
#include "runtime/base/error.h"
#include "runtime/base/files.h"
#include "tests/launcher/program.h"

namespace catena::launcher {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

// A folder with a copy of `catena`; stand-ins for catena-train come and go.
class TrainerTest : public ::testing::Test {
 protected:
  TrainerTest() {
    std::string name = (fs::temp_directory_path() / "trainerXXXXXX").string();
    folder_ = ::mkdtemp(name.data());
    fs::copy_file(CATENA_PROGRAM, folder_ / "catena");
  }
  ~TrainerTest() override { fs::remove_all(folder_); }

  // A shell script that writes its arguments, each ended by a zero byte.
  fs::path make_trainer(const fs::path& path, const std::string& then) const {
    write_file_atomically(
        path,
        "#!/bin/sh\nfor argument in \"$@\"; do printf '%s\\0' "
        "\"$argument\"; done\n" +
            then + "\n");
    fs::permissions(path, fs::perms::owner_all);
    return path;
  }

  [[nodiscard]] Outcome catena(std::vector<std::string> arguments,
                               const std::vector<std::string>& environment = {
                                   kTrainerVariable}) const {
    arguments.insert(arguments.begin(), "catena");
    return Program(folder_ / "catena", arguments, environment).wait();
  }

  fs::path folder_;
};

std::string joined(const std::vector<std::string>& arguments) {
  std::string result;
  for (const std::string& argument : arguments) {
    result += argument + std::string(1, '\0');
  }
  return result;
}

TEST_F(TrainerTest, ArgumentsPassByteForByte) {
  make_trainer(folder_ / "catena-train", "");
  const std::vector<std::string> arguments = {
      "train", "a b.toml", "",       "--set",    "x=\"y\\\" 'z'", "two\nlines",
      "-h",    "--",       "--help", "\xFF\xC3", "$HOME `id` *",  "--version"};
  const Outcome outcome = catena(arguments);
  EXPECT_EQ(outcome.output, joined(arguments));
  EXPECT_EQ(outcome.error, "");
  EXPECT_EQ(outcome.code, 0);
}

TEST_F(TrainerTest, EveryCommandOfTheTrainerReachesIt) {
  make_trainer(folder_ / "catena-train", "");
  for (const TrainerCommand& command : trainer_commands()) {
    const std::string name(command.name);
    EXPECT_EQ(catena({name, "x"}).output, joined({name, "x"}));
    EXPECT_EQ(catena({"help", name}).output, joined({name, "--help"}));
  }
}

TEST_F(TrainerTest, ExitCodesPass) {
  for (const int code : {0, 1, 64, 75, 78, 255}) {
    make_trainer(folder_ / "catena-train", fmt::format("exit {}", code));
    EXPECT_EQ(catena({"train"}).code, code);
  }
}

TEST_F(TrainerTest, DeathBySignalPasses) {
  make_trainer(folder_ / "catena-train", "kill -TERM $$; sleep 10");
  EXPECT_EQ(catena({"train"}).signal, SIGTERM);
}

TEST_F(TrainerTest, SignalsReachTheTrainerItself) {
  // The trainer has taken the place of catena: same process, so its own
  // handler runs.
  make_trainer(folder_ / "catena-train",
               "trap 'exit 75' INT\n"
               "touch \"$2\"; while :; do sleep 0.01; done");
  const fs::path ready = folder_ / "ready";
  Program program(folder_ / "catena", {"catena", "train", ready.string()},
                  {kTrainerVariable});
  for (int i = 0; i < 1000 && !fs::exists(ready); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  ASSERT_TRUE(fs::exists(ready));
  ASSERT_EQ(::kill(program.process(), SIGINT), 0);
  EXPECT_EQ(program.wait().code, 75);
}

TEST_F(TrainerTest, VariableWinsOverNeighbourWinsOverPath) {
  const auto named = make_trainer(folder_ / "named", "echo named");
  const auto beside = make_trainer(folder_ / "catena-train", "echo beside");
  make_trainer(folder_ / "bin/catena-train", "echo path");
  const std::string path = fmt::format("PATH={}/none:{}/bin:/usr/bin:/bin",
                                       folder_.string(), folder_.string());
  const std::string variable =
      fmt::format("{}={}", kTrainerVariable, named.string());
  EXPECT_THAT(catena({"train"}, {path, variable}).output, HasSubstr("named"));
  EXPECT_THAT(catena({"train"}, {path, kTrainerVariable}).output,
              HasSubstr("beside"));
  fs::remove(beside);
  EXPECT_THAT(catena({"train"}, {path, kTrainerVariable}).output,
              HasSubstr("path"));
}

TEST_F(TrainerTest, MissingTrainerIsOneClearLine) {
  const Outcome outcome =
      catena({"train"}, {"PATH=/usr/bin:/bin", kTrainerVariable});
  EXPECT_EQ(outcome.code, kExitNotFound);
  EXPECT_EQ(outcome.output, "");
  EXPECT_EQ(outcome.error,
            fmt::format("catena: cannot find catena-train: it is neither in {} "
                        "nor on PATH; build it with ./catena.sh build, or name "
                        "it in CATENA_TRAIN\n",
                        folder_.string()));
}

TEST_F(TrainerTest, WhatCannotRunIsOneClearLine) {
  const auto wrong = fmt::format("{}=/nonexistent", kTrainerVariable);
  EXPECT_EQ(catena({"train"}, {wrong}).error,
            "catena: CATENA_TRAIN names /nonexistent, which is not a program; "
            "correct or unset it\n");
  write_file_atomically(folder_ / "catena-train",
                        "\x7F"
                        "ELF");
  fs::permissions(folder_ / "catena-train", fs::perms::owner_all);
  const Outcome outcome = catena({"train"});
  EXPECT_EQ(outcome.code, kExitNotFound);
  EXPECT_EQ(outcome.error, fmt::format("catena: cannot run {}/catena-train: "
                                       "Exec format error\n",
                                       folder_.string()));
}

}  // namespace
}  // namespace catena::launcher
