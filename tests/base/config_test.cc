#include "runtime/base/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "runtime/base/files.h"
#include "tests/base/config_fixture.h"

namespace catena::config {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::string problems_of(std::string_view toml) {
  Example example;
  example.schema.read_text(toml, "run.toml");
  return example.problems();
}

std::string problems_of_set(std::string_view assignment) {
  Example example;
  example.schema.set(assignment, "--set");
  return example.problems();
}

TEST(ConfigTest, FillsFieldsOfEveryType) {
  Example example;
  example.schema.read_text(R"(
seed = 7
[model]
hidden = 512
offset = -9223372036854775808
[model.attention]
kind = "gqa"
[data]
train = ["a.jsonl", "b.jsonl"]
name = "caf\u00e9"
packed = false
[train]
rate = 1e-05
clip = 3
)",
                           "run.toml");
  EXPECT_EQ(example.problems(), "");
  EXPECT_EQ(example.seed, 7);
  EXPECT_EQ(example.hidden, 512);
  EXPECT_EQ(example.offset, std::numeric_limits<std::int64_t>::min());
  EXPECT_EQ(example.attention, "gqa");
  EXPECT_THAT(example.train, ElementsAre("a.jsonl", "b.jsonl"));
  EXPECT_EQ(example.name, "caf\xC3\xA9");
  EXPECT_FALSE(example.packed);
  EXPECT_EQ(example.rate, 1e-05);
  EXPECT_EQ(example.clip, 3.0);
  EXPECT_EQ(example.steps, 1000) << "a key left out keeps its default";
}

TEST(ConfigTest, UnknownKeyNamesPlaceAndNearestKey) {
  EXPECT_EQ(problems_of("[model.chain]\niteration = 2\n"),
            "run.toml:2:1: unknown key model.chain.iteration; did you mean "
            "model.chain.iterations?");
  EXPECT_EQ(problems_of("  model.hiden = 2\n"),
            "run.toml:1:9: unknown key model.hiden; did you mean "
            "model.hidden?");
}

TEST(ConfigTest, KeyInTheWrongSectionIsFound) {
  EXPECT_EQ(problems_of("[model]\niterations = 2\n"),
            "run.toml:2:1: unknown key model.iterations; did you mean "
            "model.chain.iterations?");
  EXPECT_EQ(problems_of("[model]\niteration = 2\n"),
            "run.toml:2:1: unknown key model.iteration; did you mean "
            "model.chain.iterations?");
}

TEST(ConfigTest, UnknownKeyWithoutLikenessPointsToTheList) {
  EXPECT_EQ(problems_of("zzzzzzzz = 2\n"),
            "run.toml:1:1: unknown key zzzzzzzz; docs/configuration.md lists "
            "every key");
}

TEST(ConfigTest, OddKeysStayOnOneLine) {
  EXPECT_EQ(problems_of("\"a\\nb\" = 2\n"),
            "run.toml:1:1: unknown key \"a\\nb\"; docs/configuration.md lists "
            "every key");
  const std::string longest(10'000, 'x');
  EXPECT_LT(problems_of(longest + " = 1\n").size(), 200U);
}

TEST(ConfigTest, UnknownSectionIsReportedOnce) {
  EXPECT_EQ(problems_of("[model.chian]\niterations = 2\ntop = 1\n"),
            "run.toml:1:8: unknown section model.chian; did you mean "
            "model.chain?");
}

TEST(ConfigTest, OneSectionIsReadAndTheOthersAreSomebodyElses) {
  Example example;
  example.schema.read_text(
      "seed = 5\nzzz = 1\n[model]\nhiden = 3\n[train]\nsteps = 7\nrat = 1\n",
      "run.toml", "train");
  EXPECT_EQ(example.problems(),
            "run.toml:7:1: unknown key train.rat; did you mean train.rate?");
  EXPECT_EQ(example.steps, 7);
  EXPECT_EQ(example.seed, 1);
}

TEST(ConfigTest, ATextIsAddedToAListAsItIs) {
  Example example;
  example.schema.append("data.train", "[\xFF", "--train");
  EXPECT_EQ(example.problems(), "");
  EXPECT_EQ(example.train, (std::vector<std::string>{"a.jsonl", "[\xFF"}));
  EXPECT_EQ(example.schema.find("data.train")->origin, "--train");
  EXPECT_THROW(example.schema.append("data.stages", "one", ""), Error);
}

TEST(ConfigTest, ValueWhereASectionStands) {
  EXPECT_EQ(problems_of("model = 3\n"),
            "run.toml:1:1: model is a section, not 3; write [model] and its "
            "keys");
}

TEST(ConfigTest, SectionWhereAValueStands) {
  EXPECT_EQ(problems_of("[model.hidden]\na = 1\n"),
            "run.toml:1:1: model.hidden must be an integer from 1 to 65536, "
            "not a table");
}

TEST(ConfigTest, IntegerOutOfRange) {
  EXPECT_EQ(problems_of("[model]\nhidden = 0\n"),
            "run.toml:2:10: model.hidden must be an integer from 1 to 65536, "
            "not 0");
  EXPECT_EQ(problems_of("[model]\nhidden = 65537\n"),
            "run.toml:2:10: model.hidden must be an integer from 1 to 65536, "
            "not 65537");
  EXPECT_EQ(problems_of("seed = -1\n"),
            "run.toml:1:8: seed must be an integer >= 0, not -1");
}

TEST(ConfigTest, WrongTypesSayWhatToWrite) {
  EXPECT_EQ(problems_of("[model]\nhidden = \"256\"\n"),
            "run.toml:2:10: model.hidden must be an integer from 1 to 65536, "
            "not the text \"256\"; leave out the quotes");
  EXPECT_EQ(problems_of("[train]\nsteps = 1e3\n"),
            "run.toml:2:9: train.steps must be an integer from 1 to 1000000, "
            "not 1000; write 1000");
  EXPECT_EQ(problems_of("[train]\nsteps = 1.5\n"),
            "run.toml:2:9: train.steps must be an integer from 1 to 1000000, "
            "not 1.5");
  EXPECT_EQ(problems_of("[data]\npacked = 1\n"),
            "run.toml:2:10: data.packed must be true or false, not 1; write "
            "true");
  EXPECT_EQ(problems_of("[data]\npacked = \"false\"\n"),
            "run.toml:2:10: data.packed must be true or false, not the text "
            "\"false\"; leave out the quotes");
  EXPECT_EQ(problems_of("[data]\nname = 12\n"),
            "run.toml:2:8: data.name must be text, not 12; put it in quotes");
  EXPECT_EQ(problems_of("[data]\nname = 2020-01-02\n"),
            "run.toml:2:8: data.name must be text, not a date or time; put "
            "it in quotes");
  EXPECT_EQ(problems_of("[train]\nrate = [1]\n"),
            "run.toml:2:8: train.rate must be a finite number from 0 to 1, "
            "not a list");
}

TEST(ConfigTest, NumberMustBeFiniteAndInRange) {
  EXPECT_EQ(problems_of("[train]\nrate = 1.5\n"),
            "run.toml:2:8: train.rate must be a finite number from 0 to 1, "
            "not 1.5");
  EXPECT_EQ(problems_of("[train]\nclip = nan\n"),
            "run.toml:2:8: train.clip must be a finite number >= 0, not nan");
  EXPECT_EQ(problems_of("[train]\nclip = inf\n"),
            "run.toml:2:8: train.clip must be a finite number >= 0, not inf");
}

TEST(ConfigTest, BadChoiceListsTheChoices) {
  EXPECT_EQ(problems_of("[model.attention]\nkind = \"mal\"\n"),
            "run.toml:2:8: model.attention.kind must be one of mla, gqa, not "
            "the text \"mal\"; did you mean mla?");
  EXPECT_EQ(problems_of("[data]\nstages = [\"one\", \"x\"]\n"),
            "run.toml:2:18: data.stages must be a list, each one of one, two, "
            "not the text \"x\"");
}

TEST(ConfigTest, ListElementOfTheWrongTypeIsPointedAt) {
  EXPECT_EQ(problems_of("[data]\ntrain = [\"a\", 3]\n"),
            "run.toml:2:15: data.train must be text or a list of texts, not "
            "3; put it in quotes");
}

TEST(ConfigTest, SyntaxErrorNamesThePlace) {
  EXPECT_THAT(problems_of("[model]\nhidden = = 3\n"),
              ::testing::StartsWith("run.toml:2:10: not valid TOML: "));
  EXPECT_THAT(problems_of("[model]\nhidden = 3\nhidden = 4\n"),
              ::testing::StartsWith("run.toml:3:"));
  EXPECT_THAT(problems_of("name = \"\xFF\"\n"), HasSubstr("not valid TOML"));
}

TEST(ConfigTest, LettersOutsideOfStringsAreSyntaxErrors) {
  for (const char* text :
       {"name = \xC3\xA9\n", "J\xEF\xBB\xB7 = 1\n", "[\xC3\xA9]\n"}) {
    EXPECT_THAT(problems_of(text), HasSubstr("not valid TOML")) << text;
  }
  EXPECT_EQ(problems_of("[data]\nname = \"\"\"\\\n\xC2\xA7\"\"\"\n"), "");
}

TEST(ConfigTest, AllProblemsComeAtOnce) {
  Example example;
  example.schema.read_text("[model]\nhidden = 0\nhiden = 1\n", "run.toml");
  example.schema.set("train.steps=0", "--set");
  example.schema.problem("model.hidden", "is odd");
  EXPECT_EQ(example.problems(),
            "run.toml:2:10: model.hidden must be an integer from 1 to 65536, "
            "not 0\n"
            "run.toml:3:1: unknown key model.hiden; did you mean "
            "model.hidden?\n"
            "--set: train.steps must be an integer from 1 to 1000000, not 0\n"
            "model.hidden (default 256): is odd");
}

TEST(ConfigTest, ProblemCarriesTheOriginOfItsKey) {
  Example example;
  example.schema.read_text("[model]\nhidden = 30\n", "run.toml");
  example.schema.problem("model.hidden", "30 does not divide by 4 heads");
  example.schema.problem("model", "too large");
  example.schema.problem("", "nothing to do");
  EXPECT_EQ(example.problems(),
            "run.toml:2:10: model.hidden: 30 does not divide by 4 heads\n"
            "model: too large\n"
            "nothing to do");
}

TEST(ConfigTest, RefusedValueLeavesTheFieldAlone) {
  Example example;
  example.schema.read_text("[data]\ntrain = [\"b\", 3]\n", "run.toml");
  EXPECT_THAT(example.train, ElementsAre("a.jsonl"));
  EXPECT_FALSE(example.schema.was_set("data.train"));
}

TEST(ConfigTest, LaterSourcesWin) {
  Example example;
  example.schema.read_text("[train]\nsteps = 2\n", "a.toml");
  EXPECT_EQ(example.schema.find("train.steps")->origin, "a.toml:2:9");
  example.schema.read_text("[train]\nsteps = 3\n", "b.toml");
  EXPECT_EQ(example.steps, 3);
  example.schema.set("train.steps=4", "--set");
  example.schema.set("train.steps = 5", "--set");
  EXPECT_EQ(example.steps, 5);
  EXPECT_EQ(example.schema.find("train.steps")->origin, "--set");
  EXPECT_EQ(example.schema.find("train.steps")->default_value, "1000");
  EXPECT_EQ(example.schema.find("model.hidden")->origin, "default");
  EXPECT_TRUE(example.schema.was_set("train.steps"));
  EXPECT_FALSE(example.schema.was_set("model.hidden"));
  EXPECT_EQ(example.problems(), "");
}

TEST(ConfigTest, SetTakesTomlAndBareText) {
  Example example;
  Schema& schema = example.schema;
  schema.set("data.name=12", "--set");
  EXPECT_EQ(example.name, "12");
  schema.set("data.name=a \"b\"\nc=d", "--set");
  EXPECT_EQ(example.name, "a \"b\"\nc=d");
  schema.set("data.name=\"quoted\"", "--set");
  EXPECT_EQ(example.name, "quoted");
  schema.set("data.name='C:\\x'", "--set");
  EXPECT_EQ(example.name, "C:\\x");
  schema.set("data.name=", "--set");
  EXPECT_EQ(example.name, "");
  schema.set("data.train=one file.jsonl", "--set");
  EXPECT_THAT(example.train, ElementsAre("one file.jsonl"));
  schema.set("data.train=[\"a\", \"b\"]", "--set");
  EXPECT_THAT(example.train, ElementsAre("a", "b"));
  schema.set("data.train=", "--set");
  EXPECT_THAT(example.train, IsEmpty());
  schema.set("model.attention.kind=gqa", "--set");
  EXPECT_EQ(example.attention, "gqa");
  schema.set("train.clip=2", "--set");
  EXPECT_EQ(example.clip, 2.0);
  schema.set("data.packed=false", "--set");
  EXPECT_FALSE(example.packed);
  EXPECT_EQ(example.problems(), "");
}

TEST(ConfigTest, SetRefusesWhatItCannotRead) {
  EXPECT_EQ(problems_of_set("train.steps"),
            "--set: expected KEY=VALUE, such as train.steps=200, not "
            "\"train.steps\"");
  EXPECT_EQ(problems_of_set("=3"),
            "--set: expected KEY=VALUE, such as train.steps=200, not \"=3\"");
  EXPECT_EQ(problems_of_set("train.step=3"),
            "--set: unknown key train.step; did you mean train.steps?");
  EXPECT_EQ(problems_of_set("model.attention.kind=gpa"),
            "--set: model.attention.kind must be one of mla, gqa, not the "
            "text \"gpa\"; did you mean gqa?");
  EXPECT_THAT(problems_of_set("train.steps=many"),
              HasSubstr("--set: train.steps must be an integer from 1 to "
                        "1000000, not \"many\": "));
  EXPECT_THAT(problems_of_set("train.steps=1\nseed=2"),
              HasSubstr("more than one value"));
  EXPECT_THAT(problems_of_set("data.train=[\"a\""),
              HasSubstr("must be text or a list of texts"));
  EXPECT_THAT(problems_of_set("data.name=\"a"), HasSubstr("must be text"));
  EXPECT_THAT(problems_of_set("data.name=\xFF"), HasSubstr("must be text"));
}

TEST(ConfigTest, SetValueTakesTomlOnly) {
  Example example;
  example.schema.set_value("model.hidden", "64", "config.json");
  example.schema.set_value("data.name", "\"x\"", "config.json");
  EXPECT_EQ(example.problems(), "");
  EXPECT_EQ(example.hidden, 64);
  EXPECT_EQ(example.name, "x");
  EXPECT_EQ(example.schema.find("data.name")->origin, "config.json");
  example.schema.set_value("data.name", "bare", "config.json");
  example.schema.set_value("data.nam", "1", "config.json");
  EXPECT_THAT(example.problems(), HasSubstr("config.json: data.name must be"));
  EXPECT_THAT(example.problems(),
              HasSubstr("config.json: unknown key data.nam; did you mean "
                        "data.name?"));
}

TEST(ConfigTest, FileThatCannotBeReadFailsAtOnce) {
  Example example;
  try {
    example.schema.read_file("/nonexistent/run.toml");
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kConfig);
    EXPECT_STREQ(error.what(),
                 "/nonexistent/run.toml: cannot open: No such file or "
                 "directory; give the path of a TOML file");
  }
}

TEST(ConfigTest, ReadsAFile) {
  const auto path = std::filesystem::path(::testing::TempDir()) / "ok.toml";
  write_file_atomically(path, "[train]\r\nsteps = 12\r\n");
  Example example;
  example.schema.read_file(path);
  EXPECT_EQ(example.problems(), "");
  EXPECT_EQ(example.steps, 12);
  EXPECT_EQ(example.schema.find("train.steps")->origin, path.string() + ":2:9");
}

TEST(ConfigTest, MistakesOfTheProgrammerAreRefused) {
  Example example;
  std::int64_t value = 3;
  Schema& schema = example.schema;
  EXPECT_THROW(schema.add("seed", value, Integer{0, 9, "", ""}), Error);
  EXPECT_THROW(schema.add("Bad Name", value, Integer{0, 9, "", ""}), Error);
  EXPECT_THROW(schema.add("model.chain", value, Integer{0, 9, "", ""}), Error);
  EXPECT_THROW(schema.add("seed.part", value, Integer{0, 9, "", ""}), Error);
  EXPECT_THROW(schema.add("a.b", value, Integer{4, 9, "", ""}), Error);
  EXPECT_THROW(schema.section("seed", ""), Error);
  EXPECT_THROW(static_cast<void>(schema.was_set("no.such")), Error);
  std::string text = "x";
  EXPECT_THROW(schema.add("a.c", text, Text{{"y"}, "", ""}), Error);
}

}  // namespace
}  // namespace catena::config
