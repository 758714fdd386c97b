#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "launcher/contract.h"
#include "runtime/base/files.h"
#include "tests/launcher/program.h"

/// catena.sh in a folder of its own, with stand-ins for the programs that
/// install and build: each writes down how it was called.

namespace catena::launcher {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::Not;

class ScriptTest : public ::testing::Test {
 protected:
  ScriptTest() {
    std::string name = (fs::temp_directory_path() / "scriptXXXXXX").string();
    folder_ = ::mkdtemp(name.data());
    const fs::path source = CATENA_SOURCE_DIR;
    fs::copy_file(source / "catena.sh", folder_ / "catena.sh");
    fs::create_directory(folder_ / "deploy");
    fs::copy_file(source / "deploy/packages.txt",
                  folder_ / "deploy/packages.txt");
    for (const char* program : {"apt-get", "cmake", "ninja"}) {
      stand_in(fs::path("bin") / program,
               std::string("echo \"") + program + " $*\" >> \"$CALLS\"");
    }
    stand_in("bin/sudo", "echo \"sudo $*\" >> \"$CALLS\"; exec \"$@\"");
    stand_in("bin/dpkg-query",
             "for name; do :; done\n"
             "case \" $MISSING \" in *\" $name \"*) exit 1;; esac\n"
             "printf installed");
    stand_in("build/catena", "echo \"catena $*\"; exit 75");
  }
  ~ScriptTest() override { fs::remove_all(folder_); }

  void stand_in(const fs::path& path, const std::string& body) const {
    write_file_atomically(folder_ / path, "#!/bin/sh\n" + body + "\n");
    fs::permissions(folder_ / path, fs::perms::owner_all);
  }

  [[nodiscard]] Outcome script(const std::vector<std::string>& arguments,
                               const std::string& missing = "") const {
    std::vector<std::string> all = {"bash", (folder_ / "catena.sh").string()};
    all.insert(all.end(), arguments.begin(), arguments.end());
    return Program(
               "/bin/bash", all,
               {"PATH=" + (folder_ / "bin").string() + ":/usr/bin:/bin",
                "CALLS=" + (folder_ / "calls").string(), "MISSING=" + missing})
        .wait();
  }

  [[nodiscard]] std::string calls() const {
    return fs::exists(folder_ / "calls") ? read_file(folder_ / "calls") : "";
  }

  fs::path folder_;
};

TEST_F(ScriptTest, HelpListsTheCommands) {
  for (const auto& asked :
       std::vector<std::vector<std::string>>{{}, {"help"}, {"--help"}}) {
    const Outcome outcome = script(asked);
    EXPECT_EQ(outcome.code, kExitSuccess);
    for (const char* command :
         {"quickstart", "build", "test", "bench", "check", "help"}) {
      EXPECT_THAT(outcome.output,
                  HasSubstr("\n  " + std::string(command) + " "));
    }
  }
  EXPECT_EQ(calls(), "");
}

TEST_F(ScriptTest, UnknownCommandIsAUsageError) {
  const Outcome outcome = script({"bnech"});
  EXPECT_EQ(outcome.code, kExitUsage);
  EXPECT_THAT(outcome.error, HasSubstr("usage: ./catena.sh COMMAND"));
  EXPECT_THAT(outcome.error, HasSubstr("catena.sh: unknown command bnech\n"));
  EXPECT_EQ(calls(), "");
}

TEST_F(ScriptTest, BuildInstallsNothingWhenAllIsThere) {
  const Outcome outcome = script({"build"});
  EXPECT_EQ(outcome.code, 0) << outcome.error;
  EXPECT_THAT(calls(), Not(HasSubstr("apt-get")));
  EXPECT_THAT(calls(), HasSubstr("cmake -S . -B build -G Ninja "
                                 "-DCMAKE_BUILD_TYPE=Release "
                                 "-DCATENA_TESTS=OFF\n"));
  EXPECT_THAT(calls(), HasSubstr(" catena catena-train\n"));
  EXPECT_THAT(outcome.output,
              HasSubstr("catena.sh: built build/catena and build/catena-train "
                        "(CUDA: no)\n"));
}

TEST_F(ScriptTest, BuildInstallsJustWhatIsMissing) {
  stand_in("bin/id", "echo 0");
  const Outcome outcome =
      script({"build"}, "cmake libgtest-dev nlohmann-json3-dev");
  EXPECT_EQ(outcome.code, 0) << outcome.error;
  EXPECT_THAT(outcome.output,
              HasSubstr("catena.sh: installing cmake nlohmann-json3-dev\n"));
  EXPECT_THAT(calls(),
              ::testing::ContainsRegex(
                  "apt-get .*update\napt-get .*install "
                  "--no-install-recommends cmake nlohmann-json3-dev\n"));
  EXPECT_THAT(calls(), Not(HasSubstr("sudo")));
  EXPECT_THAT(calls(), Not(HasSubstr("gtest"))) << "for tests only";
}

TEST_F(ScriptTest, OthersThanRootUseSudo) {
  stand_in("bin/id", "echo 1000");
  EXPECT_EQ(script({"build"}, "ccache").code, 0);
  EXPECT_THAT(calls(), HasSubstr("sudo env DEBIAN_FRONTEND=noninteractive "
                                 "apt-get "));
}

TEST_F(ScriptTest, FailedInstallationSaysWhatToDo) {
  stand_in("bin/id", "echo 0");
  stand_in("bin/apt-get", "case \"$*\" in *install*) exit 100;; esac");
  const Outcome outcome = script({"build"}, "ccache");
  EXPECT_EQ(outcome.code, 1);
  EXPECT_THAT(outcome.error,
              HasSubstr("catena.sh: apt-get could not install all of: ccache"));
  EXPECT_THAT(calls(), Not(HasSubstr("cmake")));
}

TEST_F(ScriptTest, TestsGoOnWithoutTheBrowserWhereItCannotBeInstalled) {
  stand_in("bin/id", "echo 0");
  stand_in("bin/apt-get", "echo \"apt-get $*\" >> \"$CALLS\"; exit 100");
  stand_in("bin/ninja", "exit 3");
  const Outcome outcome = script({"test"}, "chromium-headless-shell");
  EXPECT_EQ(outcome.code, 3) << "where it is stopped: at the build";
  EXPECT_THAT(calls(), HasSubstr(" install --no-install-recommends "
                                 "chromium-headless-shell\n"));
  EXPECT_THAT(outcome.output, HasSubstr("going on without what [browser] of "
                                        "deploy/packages.txt names"));
  EXPECT_THAT(calls(), HasSubstr("cmake -S . -B build "));
}

TEST_F(ScriptTest, OnlyTestsInstallABrowser) {
  static_cast<void>(script({"build"}, "chromium-headless-shell prometheus"));
  EXPECT_THAT(calls(), Not(HasSubstr("apt-get")));
}

TEST_F(ScriptTest, FailedStageIsNamed) {
  stand_in("bin/ninja", "exit 3");
  const Outcome outcome = script({"build"});
  EXPECT_EQ(outcome.code, 3);
  EXPECT_THAT(outcome.error,
              HasSubstr("catena.sh: failed while: building in build/\n"));
}

TEST_F(ScriptTest, QuickstartTrainsAfterTheBuild) {
  const Outcome outcome = script({"quickstart"});
  EXPECT_EQ(outcome.code, 75) << "the code of the training itself";
  EXPECT_THAT(outcome.output,
              ::testing::EndsWith("catena train configs/quickstart.toml\n"));
}

TEST_F(ScriptTest, BenchMeasuresAndPrintsTheTables) {
  stand_in("build/bench-venv/bin/python", "exit 0");
  stand_in("bench/run", "echo \"run $*\" >> \"$CALLS\"");
  stand_in("bench/table", "echo \"tables of $*\"");
  const Outcome outcome = script({"bench", "2"});
  EXPECT_EQ(outcome.code, 0) << outcome.error;
  EXPECT_THAT(calls(), HasSubstr(" catena-bench-step catena-bench-machine\n"));
  EXPECT_THAT(calls(), HasSubstr("run build/bench.jsonl --rounds 2\n"));
  EXPECT_THAT(outcome.output,
              ::testing::EndsWith("tables of build/bench.jsonl\n"));
  EXPECT_EQ(read_file(folder_ / "build/bench.md"),
            "tables of build/bench.jsonl\n");
}

TEST_F(ScriptTest, BenchTakesANumberOfRounds) {
  const Outcome outcome = script({"bench", "fast"});
  EXPECT_EQ(outcome.code, kExitUsage);
  EXPECT_THAT(outcome.error, HasSubstr("rounds, not fast\n"));
  EXPECT_EQ(calls(), "");
}

TEST_F(ScriptTest, PackageListNamesNoOldBoost) {
  EXPECT_THAT(read_file(folder_ / "deploy/packages.txt"),
              Not(HasSubstr("libboost1.74")));
}

}  // namespace
}  // namespace catena::launcher
