#include "training/data/pre_tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "runtime/base/error.h"
#include "tests/training/data/data_fixture.h"

namespace catena::data {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::vector<std::string> split(const PreTokenizer& stages,
                               const std::string& text) {
  AlignedText aligned(text, 0);
  std::vector<Span> pieces;
  stages.split(aligned, pieces);
  std::vector<std::string> found;
  for (const Span& piece : pieces) {
    found.emplace_back(
        aligned.text().substr(piece.begin, piece.end - piece.begin));
  }
  return found;
}

std::vector<std::string> split(Splitter stage, const std::string& text) {
  PreTokenizer stages;
  stages.stages.push_back(std::move(stage));
  return split(stages, text);
}

Splitter dashes(Behavior behavior, bool invert = false) {
  return {Regex("-"), behavior, invert};
}

// The examples of Hugging Face's documentation.
TEST(SplitterTest, HasFiveBehaviors) {
  const std::string text = "the-final--countdown";
  EXPECT_THAT(split(dashes(Behavior::kRemoved), text),
              ElementsAre("the", "final", "countdown"));
  EXPECT_THAT(split(dashes(Behavior::kIsolated), text),
              ElementsAre("the", "-", "final", "-", "-", "countdown"));
  EXPECT_THAT(split(dashes(Behavior::kMergedWithPrevious), text),
              ElementsAre("the-", "final-", "-", "countdown"));
  EXPECT_THAT(split(dashes(Behavior::kMergedWithNext), text),
              ElementsAre("the", "-final", "-", "-countdown"));
  EXPECT_THAT(split(dashes(Behavior::kContiguous), text),
              ElementsAre("the", "-", "final", "--", "countdown"));
}

TEST(SplitterTest, InvertSwapsMatchesAndTheRest) {
  EXPECT_THAT(split(dashes(Behavior::kRemoved, true), "a-b--c"),
              ElementsAre("-", "-", "-"));
  EXPECT_THAT(split(dashes(Behavior::kMergedWithPrevious, true), "a-b-c"),
              ElementsAre("a", "-b", "-c"));
  EXPECT_THAT(split(dashes(Behavior::kRemoved, true), "no match"), IsEmpty());
}

TEST(SplitterTest, DropsEmptyMatches) {
  EXPECT_THAT(split({Regex("x*"), Behavior::kIsolated, false}, "axxb"),
              ElementsAre("a", "xx", "b"));
}

TEST(SplitterTest, TakesStringsLiterally) {
  EXPECT_THAT(
      split({Regex::literal("a.c"), Behavior::kIsolated, false}, "abca.c"),
      ElementsAre("abc", "a.c"));
}

TEST(SplitterTest, SeparatesDigits) {
  EXPECT_THAT(split(Splitter::digits(true), "a12\xC2\xBD"),
              ElementsAre("a", "1", "2", "\xC2\xBD"));
  EXPECT_THAT(split(Splitter::digits(false), "a12\xC2\xBD"),
              ElementsAre("a", "12\xC2\xBD"));
}

TEST(SplitterTest, KnowsGpt2Pattern) {
  EXPECT_THAT(split(Splitter::gpt2(), "I'll go  to 42nd, don't\n \n x"),
              ElementsAre("I", "'ll", " go", " ", " to", " 42", "nd", ",",
                          " don", "'t", "\n \n", " x"));
}

TEST(PreTokenizerTest, EachStageSplitsThePiecesOfTheStageBefore) {
  PreTokenizer stages;
  stages.stages.push_back({Regex("[\r\n]"), Behavior::kIsolated, false});
  // Sees the ends of pieces as ends of text.
  stages.stages.push_back({Regex("\\s+$"), Behavior::kIsolated, false});
  EXPECT_THAT(split(stages, "ab  \nc "),
              ElementsAre("ab", "  ", "\n", "c", " "));
}

TEST(PreTokenizerTest, PutsASpaceInFrontOfPiecesThatHaveNone) {
  PreTokenizer stages;
  stages.stages.push_back(Splitter::digits(true));
  stages.prefix_space = true;
  EXPECT_THAT(split(stages, "a1 b"), ElementsAre(" a", " 1", " b"));
  AlignedText text("a1", 10);
  std::vector<Span> pieces;
  stages.split(text, pieces);
  EXPECT_EQ(text.origin(0), (Span{10, 10}));  // inserted
  EXPECT_EQ(text.origin(1), (Span{10, 11}));
  EXPECT_EQ(text.origin(3), (Span{11, 12}));
}

TEST(RegexTest, ReadsPatternsAsOnigurumaDoes) {
  const auto matches = [](const char* pattern, std::string_view text) {
    std::vector<Span> found;
    Regex(pattern).find_all(text, found);
    return found.size();
  };
  EXPECT_EQ(matches("$", "a\nb"), 2U);                    // every line's end
  EXPECT_EQ(matches("\\s", "\xC2\xA0\xE1\xA0\x8E"), 1U);  // not U+180E
  EXPECT_EQ(matches("[^\\S-]", "\xE2\x80\x83-"), 1U);
  EXPECT_EQ(matches("\\w", "\xCC\x81"), 1U);  // a mark
  EXPECT_EQ(matches("\\w", "\xC2\xBD"), 1U);  // one half
  EXPECT_EQ(matches("[\\w]", "\xC2\xBD"), 0U);
  EXPECT_EQ(matches("(?i:'LL)", "'ll"), 1U);
  EXPECT_EQ(matches("\\p{N}{1,3}+", "1234"), 2U);
}

TEST(RegexTest, RefusesWhatMeansSomethingElse) {
  EXPECT_EQ(error_of([] { Regex("[a&&b]"); }),
            "pattern \"[a&&b]\": the intersection && at offset 2 is not "
            "supported");
  EXPECT_EQ(error_of([] { Regex("[a[b]]"); }),
            "pattern \"[a[b]]\": a class within a class at offset 2 is not "
            "supported");
  EXPECT_EQ(error_of([] { Regex("\\h"); }),
            "pattern \"\\\\h\": \\h at offset 0 is not supported");
  EXPECT_THAT(error_of([] { Regex("(a"); }), HasSubstr("missing closing"));
}

TEST(RegexTest, StopsAPatternThatTakesForever) {
  std::vector<Span> found;
  const Regex regex("(?:(?:a|a)+)+[bd]");
  EXPECT_THAT(
      error_of([&] { regex.find_all(std::string(200, 'a') + "c", found); }),
      HasSubstr("match limit exceeded"));
}

}  // namespace
}  // namespace catena::data
