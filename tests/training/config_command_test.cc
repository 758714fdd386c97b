#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <regex>

#include "tests/training/command_fixture.h"

namespace catena {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

constexpr const char* kQuickstart = "configs/quickstart.toml";

/// `catena config explain | check | show | init`, as a user runs them.
class ConfigCommandTest : public CommandFixture {
 protected:
  /// Standard output of a command that has to succeed silently.
  [[nodiscard]] std::string output(const std::string& arguments) const {
    const Outcome outcome = run("config " + arguments);
    EXPECT_EQ(outcome.code, 0) << arguments;
    EXPECT_EQ(outcome.err, "") << arguments;
    return outcome.out;
  }
  /// A file with this content is refused as a configuration.
  void expect_file_refused(const std::string& content,
                           const std::string& message) const {
    const std::string path = write("refused.toml", content);
    for (const char* command : {"check", "show"}) {
      expect_refused(fmt::format("config {} '{}'", command, path), 78,
                     path + message);
    }
  }
};

std::string without_comments(const std::string& toml) {
  return std::regex_replace(toml, std::regex(" *#[^\n]*"), "");
}

TEST_F(ConfigCommandTest, ExplainsAKey) {
  EXPECT_EQ(output("explain model.chain.top_k"),
            "model.chain.top_k = 4  # default\n"
            "    Experts chosen per token and iteration.\n"
            "    integer, 1 to 256, experts; default 4\n");
}

TEST_F(ConfigCommandTest, ExplainsEveryKeyOfASection) {
  const std::string section = output("explain model.chain");
  EXPECT_THAT(section, StartsWith("[model.chain]\n"));
  for (const char* key : {"iterations", "routed_experts", "top_k"}) {
    EXPECT_THAT(section, HasSubstr(fmt::format("\nmodel.chain.{} = ", key)));
    EXPECT_THAT(section,
                HasSubstr(output(fmt::format("explain model.chain.{}", key))));
  }
}

TEST_F(ConfigCommandTest, ExplainNamesTheNearestKey) {
  expect_refused("config explain model.chain.topk", 64,
                 "unknown key model.chain.topk; did you mean "
                 "model.chain.top_k?");
  expect_refused("config explain zzz", 64,
                 "unknown key zzz; docs/configuration.md lists every key");
}

TEST_F(ConfigCommandTest, CheckAcceptsEveryConfigurationOfTheRepository) {
  const fs::path source = CATENA_SOURCE_DIR;
  int files = 0;
  for (const auto& entry :
       fs::recursive_directory_iterator(source / "configs")) {
    if (entry.path().extension() != ".toml") continue;
    // Those describe machines; forecast_test reads them.
    if (entry.path().parent_path().filename() == "clusters") continue;
    const std::string path = fs::relative(entry.path(), source).string();
    EXPECT_EQ(output("check " + path), path + ": no problems\n");
    ++files;
  }
  EXPECT_GE(files, 3);
}

TEST_F(ConfigCommandTest, ProblemsOfAFileHaveItsLine) {
  expect_file_refused("[model]\nhidden = 64\nlayer = 2\n",
                      ":3:1: unknown key model.layer; did you mean "
                      "model.layers?");
  expect_file_refused("[train]\nsteps = \"many\"\n",
                      ":2:9: train.steps must be an integer from 1 to "
                      "1099511627776, not the text \"many\"");
  expect_file_refused("[train\nsteps = 3\n", ":1:7: not valid TOML");
  expect_refused("config check nothing.toml", 78, "nothing.toml: cannot open");
}

TEST_F(ConfigCommandTest, ProblemsOfASettingNameIt) {
  const std::string check = fmt::format("config check {} --set ", kQuickstart);
  expect_refused(check + "train.stesp=3", 78,
                 "--set: unknown key train.stesp; did you mean train.steps?");
  expect_refused(check + "train.steps", 78,
                 "--set: expected KEY=VALUE, such as train.steps=200");
  expect_refused(check + "train.steps=0", 78, "--set: train.steps must be");
  for (const char* none : {"0", "1e-46"}) {
    expect_refused(check + "optimizer.epsilon=" + none, 78,
                   "optimizer.epsilon: must be above 0 as float32");
  }
}

TEST_F(ConfigCommandTest, ShowSaysWhereEveryValueIsFrom) {
  const std::string path = write("few.toml", "[train]\nsteps = 7\n");
  const std::string shown =
      output(fmt::format("show '{}' --set train.seed=9", path));
  EXPECT_THAT(shown, HasSubstr(fmt::format("\nsteps = 7  # {}:2:9\n", path)));
  EXPECT_THAT(shown, HasSubstr("\nseed = 9  # --set\n"));
  EXPECT_THAT(shown, HasSubstr("\nlayers = 4  # default\n"));
}

TEST_F(ConfigCommandTest, WhatIsShownIsAConfiguration) {
  const std::string shown =
      output(fmt::format("show {} --set train.steps=50", kQuickstart));
  const std::string path = write("shown.toml", shown);
  EXPECT_EQ(output("check '" + path + "'"), path + ": no problems\n");
  EXPECT_EQ(without_comments(output("show '" + path + "'")),
            without_comments(shown));
}

TEST_F(ConfigCommandTest, InitWritesTheDefaults) {
  const std::string file = output("init");
  EXPECT_THAT(file, HasSubstr("# Experts chosen per token and iteration.\n"
                              "# integer, 1 to 256, experts; default 4\n"
                              "top_k = 4\n"));
  const std::string path = write("init.toml", file);
  EXPECT_EQ(output("check '" + path + "'"), path + ": no problems\n");
  EXPECT_EQ(without_comments(output("show '" + path + "'")),
            without_comments(
                output(fmt::format("show '{}'", write("empty.toml", "")))));
}

TEST_F(ConfigCommandTest, WrongCommandLinesAreUsageErrors) {
  expect_refused("config", 64, "catena config --help");
  expect_refused("config explian x", 64, "catena config --help");
  expect_refused("config explain", 64, "key is required");
  expect_refused("config check", 64, "config is required");
  expect_refused("config init extra", 64, "not expected: extra");
  expect_refused(fmt::format("config show {} --json", kQuickstart), 64,
                 "--json");
}

}  // namespace
}  // namespace catena
