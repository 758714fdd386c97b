#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <bit>
#include <cmath>
#include <string>
#include <vector>

#include "runtime/base/config.h"

namespace catena::config {
namespace {

constexpr auto kMost = std::numeric_limits<std::int64_t>::max();
constexpr auto kLeast = std::numeric_limits<std::int64_t>::min();
constexpr auto kInfinity = std::numeric_limits<double>::infinity();

struct Values {
  std::int64_t integer = 0;
  double number = 0;
  bool flag = false;
  std::string text;
  std::vector<std::string> texts;

  void bind(Schema& schema) {
    schema.add("a.integer", integer, Integer{kLeast, kMost, "", "One."});
    schema.add("a.number", number, Number{-kInfinity, kInfinity, "", "Two."});
    schema.add("b.flag", flag, Switch{"Three."});
    schema.add("b.text", text, Text{{}, "", "Four."});
    schema.add("b.texts", texts, Text{{}, "", "Five."});
  }
};

// Valid UTF-8 with a taste for what needs escaping.
rc::Gen<std::string> any_text() {
  static const std::vector<std::string> kPieces = {"a",
                                                   "\"",
                                                   "\\",
                                                   "\n",
                                                   "\r",
                                                   "\t",
                                                   "#",
                                                   "'",
                                                   "]",
                                                   "\x7F",
                                                   "\x01",
                                                   " ",
                                                   "\xC3\xA9",
                                                   "=",
                                                   "\xF0\x9F\x98\x80",
                                                   std::string(1, '\0'),
                                                   "\"\"\"",
                                                   "\xE2\x80\xA8",
                                                   "\\u"};
  return rc::gen::map(
      rc::gen::container<std::vector<std::string>>(rc::gen::elementOf(kPieces)),
      [](const std::vector<std::string>& pieces) {
        std::string text;
        for (const std::string& piece : pieces) text += piece;
        return text;
      });
}

// Every finite double, subnormal ones and both zeros included.
rc::Gen<double> any_number() {
  return rc::gen::suchThat(
      rc::gen::map(
          rc::gen::arbitrary<std::array<std::uint8_t, 8>>(),
          [](const auto& bytes) { return std::bit_cast<double>(bytes); }),
      [](double value) { return std::isfinite(value); });
}

RC_GTEST_PROP(ConfigPropertyTest, TomlReadsBackToTheSameValues, ()) {
  Values first;
  first.integer = *rc::gen::arbitrary<std::int64_t>();
  first.number = *rc::gen::oneOf(any_number(), rc::gen::arbitrary<double>());
  first.flag = *rc::gen::arbitrary<bool>();
  first.text = *any_text();
  first.texts = *rc::gen::container<std::vector<std::string>>(any_text());
  Schema source;
  first.bind(source);
  const bool commented = *rc::gen::arbitrary<bool>();
  const bool origins = *rc::gen::arbitrary<bool>();

  Values second;
  Schema copy;
  second.bind(copy);
  copy.read_text(source.toml(commented, origins), "copy.toml");
  copy.finish();
  RC_ASSERT(second.integer == first.integer);
  RC_ASSERT(std::bit_cast<std::uint64_t>(second.number) ==
            std::bit_cast<std::uint64_t>(first.number));
  RC_ASSERT(second.flag == first.flag);
  RC_ASSERT(second.text == first.text);
  RC_ASSERT(second.texts == first.texts);
  RC_ASSERT(copy.was_set("b.texts"));
}

RC_GTEST_PROP(ConfigPropertyTest, BareTextIsTakenAsItIs, ()) {
  const std::string text = *any_text();
  const auto first = text.find_first_not_of(" \t");
  RC_PRE(first == std::string::npos ||
         (text[first] != '"' && text[first] != '\''));
  Values values;
  Schema schema;
  values.bind(schema);
  schema.set("b.text=" + text, "--set");
  schema.finish();
  RC_ASSERT(values.text == text);
}

TEST(ConfigNumberTest, ExtremeNumbersSurvive) {
  for (const double value : {5e-324, 1.7976931348623157e308, -0.0, 1e-05, 0.1,
                             123456789012345680000.0, 1e22, 3.0}) {
    Values first;
    first.number = value;
    Schema source;
    first.bind(source);
    Values second;
    Schema copy;
    second.bind(copy);
    copy.read_text(source.toml(false, false), "copy.toml");
    EXPECT_NO_THROW(copy.finish());
    EXPECT_EQ(std::bit_cast<std::uint64_t>(second.number),
              std::bit_cast<std::uint64_t>(value))
        << source.toml(false, false);
  }
}

}  // namespace
}  // namespace catena::config
