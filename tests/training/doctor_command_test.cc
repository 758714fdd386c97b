// catena doctor, as a user runs it.

#include <sys/stat.h>

#include <map>

#include "tests/support/json.h"
#include "tests/training/command_fixture.h"

namespace catena {
namespace {

using testing::ContainsRegex;
using testing::HasSubstr;

class DoctorCommandTest : public CommandFixture {
 protected:
  /// name -> value of `catena doctor --json`, run after `before`.
  [[nodiscard]] std::map<std::string, std::string> values(
      const std::string& before = "") {
    const Outcome outcome = run("doctor --json", before);
    code_ = outcome.code;
    std::map<std::string, std::string> found;
    for (const auto& finding : json_of(outcome.out)) {
      found[finding["name"]] = finding["value"];
      marks_[finding["name"]] = finding["mark"];
    }
    return found;
  }
  /// A program of this name, first on PATH of what runs after the result.
  [[nodiscard]] std::string with_program(const std::string& name,
                                         const std::string& script) const {
    const std::string path = write("bin/" + name, "#!/bin/sh\n" + script);
    ::chmod(path.c_str(), 0755);
    return fmt::format("export PATH='{}/bin':\"$PATH\";", folder_.string());
  }

  int code_ = -1;
  std::map<std::string, std::string> marks_;
};

TEST_F(DoctorCommandTest, NamesWhatIsThere) {
  const Outcome text = run("doctor");
  EXPECT_EQ(text.code, 0) << text.out;
  EXPECT_EQ(text.err, "");
  const auto found = values();
  for (const char* name :
       {"compiler", "libraries", "processor", "instructions", "caches", "cores",
        "load", "memory", "huge pages", "disk", "disk speed", "CUDA toolkit",
        "CUDA driver", "CUDA", "NCCL", "MPI", "network", "float32 speed",
        "bfloat16 speed"}) {
    EXPECT_THAT(text.out, HasSubstr(name));
    EXPECT_EQ(found.count(name), 1U) << name;
    EXPECT_NE(found.find(name)->second, "") << name;
  }
}

TEST_F(DoctorCommandTest, SaysWhatJoinsRanks) {
  const std::string text = run("doctor").out;
  EXPECT_THAT(text, HasSubstr("ranks exchange by shared memory, Gloo or MPI"));
  EXPECT_THAT(text, HasSubstr("joins the ranks that it starts"));
  EXPECT_THAT(text, HasSubstr("between machines ranks talk over"));
}

TEST_F(DoctorCommandTest, GivesTheVersionOfEveryLibrary) {
  const std::string libraries = values()["libraries"];
  for (const char* name :
       {"fmt", "spdlog", "zstd", "xxHash", "PCRE2", "utf8proc", "nlohmann-json",
        "toml\\+\\+", "CLI11", "glibc"}) {
    EXPECT_THAT(libraries,
                ContainsRegex(std::string(name) + " [0-9]+\\.[0-9]"));
  }
}

TEST_F(DoctorCommandTest, KnowsTheMachine) {
  auto found = values();
  EXPECT_THAT(found["cores"],
              ContainsRegex("^[0-9]+ of [0-9]+ \\([0-9,-]+\\)"));
  EXPECT_THAT(found["memory"], ContainsRegex("[0-9.]+ [MG]iB, [0-9.]+ [MG]iB "
                                             "of them available now"));
  EXPECT_THAT(found["disk speed"], ContainsRegex("[0-9.]+ MB/s"));
  EXPECT_THAT(values("taskset -cp 0 $$ >/dev/null;")["cores"],
              HasSubstr("(0)"));
}

TEST_F(DoctorCommandTest, AsksMpirunForItsVersion) {
  const std::string open = "echo 'mpirun (Open MPI) 4.1.4'; echo Report bugs";
  EXPECT_EQ(values(with_program("mpirun", open))["MPI"],
            "mpirun (Open MPI) 4.1.4");
  const std::string mpich = "echo 'HYDRA build details:'; echo '  Version: 4'";
  EXPECT_EQ(values(with_program("mpirun", mpich))["MPI"],
            "HYDRA build details: Version: 4");
}

TEST_F(DoctorCommandTest, WaitsForNoProgramThatHangs) {
  const std::string hangs = with_program("mpirun", "sleep 1000");
  EXPECT_THAT(values(hangs)["MPI"], HasSubstr("mpirun does not answer"));
  const std::string fails = with_program("mpirun", "exit 3");
  EXPECT_THAT(values(fails)["MPI"], HasSubstr("mpirun does not answer"));
}

TEST_F(DoctorCommandTest, AsksTheDriverAndNccl) {
  for (const char* name : {"libnvidia-ml.so.1", "libnccl.so.2"}) {
    fs::create_symlink(CATENA_FAKE_NVIDIA, folder_ / name);
  }
  const auto found =
      values(fmt::format("export LD_LIBRARY_PATH='{}';", folder_.string()));
  EXPECT_EQ(found.at("CUDA driver"),
            "580.65.06, for CUDA up to 13.1; GPU 0 NVIDIA Fake: 75.0 GiB of "
            "80.0 GiB free, 17 % busy; GPU 1 does not answer");
  EXPECT_EQ(found.at("NCCL"), "2.27.3");
}

TEST_F(DoctorCommandTest, LeavesNothingBehind) {
  fs::create_directories(folder_ / "empty");
  (void)values(fmt::format("cd '{}/empty';", folder_.string()));
  EXPECT_EQ(code_, 0);
  EXPECT_TRUE(fs::is_empty(folder_ / "empty"));
}

TEST_F(DoctorCommandTest, AFolderThatCannotBeWrittenToIsBad) {
  // Nobody, not even root, makes files there.
  const auto found = values("cd /proc;");
  EXPECT_EQ(code_, 1);
  EXPECT_EQ(marks_["disk speed"], "bad");
  EXPECT_THAT(found.at("disk speed"),
              ContainsRegex("^cannot make a file: (No such file or directory|"
                            "Permission denied)$"));
}

TEST_F(DoctorCommandTest, SaysWhyASampleIsCutShort) {
  const auto found = values("trap '' XFSZ; ulimit -f 1024;");
  EXPECT_EQ(code_, 1);
  EXPECT_EQ(marks_["disk speed"], "bad");
  EXPECT_EQ(found.at("disk speed"), "cannot write: File too large");
}

}  // namespace
}  // namespace catena
