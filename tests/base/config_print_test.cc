#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/base/config_fixture.h"

namespace catena::config {
namespace {

using ::testing::HasSubstr;

std::string usage_error(const Schema& schema, std::string_view path) {
  try {
    static_cast<void>(schema.explain(path));
  } catch (const Error& error) {
    return error.kind() == ErrorKind::kUsage ? error.what() : "wrong kind";
  }
  return "no error";
}

TEST(ConfigPrintTest, KeysShowRangesAndDefaults) {
  const Example example;
  const auto range = [&](std::string_view path) {
    return example.schema.find(path)->range;
  };
  EXPECT_EQ(range("model.hidden"), "1 to 65536");
  EXPECT_EQ(range("seed"), ">= 0");
  EXPECT_EQ(range("model.offset"), "");
  EXPECT_EQ(range("train.clip"), ">= 0");
  EXPECT_EQ(range("train.rate"), "0 to 1");
  EXPECT_EQ(example.schema.find("train.rate")->default_value, "0.001");
  EXPECT_EQ(example.schema.find("data.train")->default_value, "[\"a.jsonl\"]");
  EXPECT_EQ(example.schema.find("no.such"), nullptr);
  EXPECT_EQ(example.schema.keys().size(), 12U);
  EXPECT_EQ(example.schema.keys().front().path, "seed");
}

TEST(ConfigPrintTest, ExplainsAKey) {
  Example example;
  example.schema.set("model.chain.iterations=3", "--set");
  EXPECT_EQ(example.schema.explain("model.chain.iterations"),
            "model.chain.iterations = 3  # --set\n"
            "    Length of the chain (C).\n"
            "    integer, 1 to 64, iterations; default 2\n");
  EXPECT_EQ(example.schema.explain("model.attention.kind"),
            "model.attention.kind = \"mla\"  # default\n"
            "    Kind of attention.\n"
            "    text: mla | gqa; default \"mla\"\n");
}

TEST(ConfigPrintTest, ExplainsASectionAndWhatLiesInIt) {
  const Example example;
  const std::string text = example.schema.explain("model");
  EXPECT_THAT(text, ::testing::StartsWith("[model]\nThe model.\n"));
  EXPECT_THAT(text, HasSubstr("model.hidden = 256"));
  EXPECT_THAT(text, HasSubstr("model.chain.iterations = 2"));
  EXPECT_THAT(text, ::testing::Not(HasSubstr("train.steps")));
  EXPECT_THAT(example.schema.explain(""), HasSubstr("train.steps"));
}

TEST(ConfigPrintTest, ExplainNamesTheNearest) {
  const Example example;
  EXPECT_EQ(usage_error(example.schema, "model.hiden"),
            "unknown key model.hiden; did you mean model.hidden?");
  EXPECT_EQ(usage_error(example.schema, "modle"),
            "unknown section modle; did you mean model?");
  EXPECT_EQ(usage_error(example.schema, "iterations"),
            "unknown key iterations; did you mean model.chain.iterations?");
}

TEST(ConfigPrintTest, MarkdownHasATablePerSection) {
  Example example;
  const std::string before = example.schema.markdown();
  EXPECT_THAT(before, ::testing::StartsWith("# Configuration\n"));
  EXPECT_THAT(before, HasSubstr("\n## Top level\n\n| key | type |"));
  EXPECT_THAT(before, HasSubstr("\n## `[model.chain]`\n\nThe chain of "
                                "experts.\n\n| key | type | unit | default "
                                "| range or choices | meaning |\n"));
  EXPECT_THAT(before, HasSubstr("\n| `hidden` | integer | features | `256` "
                                "| 1 to 65536 | Width of the residual "
                                "stream. |\n"));
  EXPECT_THAT(before, HasSubstr("| `kind` | text |  | `\"mla\"` | `mla`, "
                                "`gqa` | Kind of attention. |\n"));
  EXPECT_THAT(before, HasSubstr("A name, or a\\|b. |\n"));
  example.schema.set("model.hidden=3", "--set");
  EXPECT_EQ(example.schema.markdown(), before) << "defaults, not values";
}

TEST(ConfigPrintTest, TomlShowsCommentsAndOrigins) {
  Example example;
  example.schema.read_text("[model]\nhidden = 64\n", "run.toml");
  EXPECT_THAT(example.schema.toml(false, false),
              ::testing::StartsWith("seed = 1\n\n[model]\nhidden = 64\n"));
  EXPECT_THAT(example.schema.toml(false, true),
              HasSubstr("hidden = 64  # run.toml:2:10\noffset = 0  # "
                        "default\n"));
  EXPECT_THAT(example.schema.toml(true, false),
              HasSubstr("# The chain of experts.\n[model.chain]\n\n"
                        "# Length of the chain (C).\n"
                        "# integer, 1 to 64, iterations; default 2\n"
                        "iterations = 2\n"));
}

TEST(ConfigPrintTest, TomlKeepsTopLevelKeysFirst) {
  std::int64_t inner = 1, outer = 2;
  Schema schema;
  schema.add("section.inner", inner, Integer{0, 9, "", ""});
  schema.add("outer", outer, Integer{0, 9, "", ""});
  EXPECT_EQ(schema.toml(false, false), "outer = 2\n\n[section]\ninner = 1\n");
}

TEST(ConfigPrintTest, TomlLeavesASectionOut) {
  const Example example;
  const std::string all = example.schema.toml(false, false);
  const std::string text = example.schema.toml(false, false, "train");
  EXPECT_TRUE(all.starts_with(text));
  EXPECT_THAT(text, HasSubstr("\n[data]\n"));
  EXPECT_THAT(text, ::testing::Not(HasSubstr("[train]")));
}

TEST(ConfigPrintTest, OddOriginsStillGiveToml) {
  Example example;
  example.schema.read_text("seed = 5\n", "odd\n\xFF");
  Example copy;
  copy.schema.read_text(example.schema.toml(true, true), "copy.toml");
  EXPECT_EQ(copy.problems(), "");
  EXPECT_EQ(copy.seed, 5);
}

}  // namespace
}  // namespace catena::config
