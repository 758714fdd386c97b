#include "training/data/tokenizer.h"

#include <limits>
#include <random>
#include <thread>

#include "tests/training/data/data_fixture.h"

namespace catena::data {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;
using Merges = std::vector<std::pair<std::string, std::string>>;

const Merges kMerges = {{"a", "b"}, {"b", "c"}, {"ab", "c"},
                        {" ", "a"}, {"x", "x"}, {"xx", "xx"}};

// The specification: merge the leftmost pair of lowest rank, again and again.
std::vector<std::string> obvious_encoding(const std::string& piece) {
  std::vector<std::string> parts;
  for (const char c : piece) parts.emplace_back(1, c);
  for (;;) {
    std::size_t best = kMerges.size(), at = 0;
    for (std::size_t i = 0; i + 1 < parts.size(); ++i) {
      for (std::size_t rank = 0; rank < best; ++rank) {
        if (kMerges[rank] == std::pair(parts[i], parts[i + 1])) {
          best = rank;
          at = i;
        }
      }
    }
    if (best == kMerges.size()) return parts;
    parts[at] += parts[at + 1];
    parts.erase(parts.begin() + static_cast<std::ptrdiff_t>(at) + 1);
  }
}

json without_splitting(json tokenizer) {
  tokenizer["pre_tokenizer"]["use_regex"] = false;
  return tokenizer;
}

json added(std::int64_t id, const std::string& content) {
  return {{"id", id},        {"content", content}, {"single_word", false},
          {"lstrip", false}, {"rstrip", false},    {"normalized", false},
          {"special", false}};
}

TEST(TokenizerTest, MergesLowestRankFirstTiesFromTheLeft) {
  const Tokenizer tokenizer =
      tokenizer_of(without_splitting(small_tokenizer(kMerges)));
  std::mt19937 random(7);
  for (int round = 0; round < 300; ++round) {
    std::string piece;
    const std::size_t size = random() % 40;
    while (piece.size() < size) piece += "abcx "[random() % 5];
    EXPECT_EQ(tokens_of(tokenizer, piece), obvious_encoding(piece)) << piece;
    EXPECT_EQ(tokens_of(tokenizer, piece), obvious_encoding(piece)) << "again";
  }
}

TEST(TokenizerTest, ReadsBothSpellingsOfMerges) {
  json pairs = small_tokenizer(kMerges);
  json list = json::array();
  for (const json& merge : pairs["model"]["merges"]) {
    const auto text = merge.get<std::string>();
    const auto space = text.find(' ');
    list.push_back({text.substr(0, space), text.substr(space + 1)});
  }
  pairs["model"]["merges"] = list;
  const std::string text = "abc abcx xxxx ab";
  EXPECT_EQ(tokenizer_of(pairs).encode(text),
            tokenizer_of(small_tokenizer(kMerges)).encode(text));
  EXPECT_THAT(tokens_of(tokenizer_of(pairs), text),
              ElementsAre("abc", " ", "abc", "x", " ", "xxxx", " ", "ab"));
}

TEST(TokenizerTest, TakesAWholePieceOnlyIfMergesAreIgnored) {
  json tokenizer = small_tokenizer(kMerges);
  tokenizer["model"]["vocab"]["hello"] = 300;
  EXPECT_EQ(tokenizer_of(tokenizer).encode("hello").size(), 5U);
  tokenizer["model"]["ignore_merges"] = true;
  EXPECT_THAT(tokenizer_of(tokenizer).encode("hello"), ElementsAre(300));
}

TEST(TokenizerTest, FindsAddedTokensBeforeAnythingElse) {
  json tokenizer = small_tokenizer(kMerges);
  tokenizer["added_tokens"].push_back(added(300, "<x>"));
  tokenizer["added_tokens"].push_back(added(301, "<x><y>"));
  EXPECT_THAT(tokenizer_of(tokenizer).encode("<x><x><y><|endoftext|>"),
              ElementsAre(300, 301, 0));
}

TEST(TokenizerTest, StripsAroundAddedTokens) {
  json tokenizer = small_tokenizer();
  json left = added(300, "<l>"), right = added(301, "<r>");
  left["lstrip"] = true;
  right["rstrip"] = true;
  tokenizer["added_tokens"].push_back(left);
  tokenizer["added_tokens"].push_back(right);
  const Tokenizer made = tokenizer_of(tokenizer);
  EXPECT_THAT(made.encode_with_offsets("a \n<l> b"),
              ElementsAre(TokenSpan{98, 0, 1}, TokenSpan{300, 1, 6},
                          TokenSpan{33, 6, 7}, TokenSpan{99, 7, 8}));
  EXPECT_THAT(made.encode_with_offsets("<r> \xC2\xA0z"),
              ElementsAre(TokenSpan{301, 0, 6}, TokenSpan{123, 6, 7}));
}

TEST(TokenizerTest, FindsSingleWordsOnlyBetweenWords) {
  json tokenizer = small_tokenizer();
  json word = added(300, "ab");
  word["single_word"] = true;
  tokenizer["added_tokens"].push_back(word);
  const Tokenizer made = tokenizer_of(tokenizer);
  EXPECT_THAT(made.encode("ab"), ElementsAre(300));
  EXPECT_THAT(made.encode("(ab)"), ElementsAre(41, 300, 42));
  EXPECT_EQ(made.encode("xab").size(), 3U);
  EXPECT_EQ(made.encode("ab\xC3\xA9").size(), 4U);
}

TEST(TokenizerTest, ComposesTextAndKeepsOffsetsIntoTheOriginal) {
  json tokenizer = small_tokenizer({{"\xC3", "\xA9"}});  // é
  tokenizer["normalizer"] = {{"type", "NFC"}};
  json e_acute = added(300, "<e\xCC\x81>");
  e_acute["normalized"] = true;
  tokenizer["added_tokens"].push_back(e_acute);
  const Tokenizer made = tokenizer_of(tokenizer);
  EXPECT_THAT(made.encode_with_offsets("xe\xCC\x81y"),
              ElementsAre(TokenSpan{121, 0, 1}, TokenSpan{257, 1, 4},
                          TokenSpan{122, 4, 5}));
  EXPECT_EQ(made.decode(made.encode("e\xCC\x81")), "\xC3\xA9");
  EXPECT_THAT(made.encode("<\xC3\xA9>"), ElementsAre(300));
  // Hangul letters become one syllable.
  EXPECT_EQ(made.decode(made.encode("\xE1\x84\x80\xE1\x85\xA1\xE1\x86\xA8")),
            "\xEA\xB0\x81");
}

TEST(TokenizerTest, OffsetsCoverTheText) {
  const Tokenizer tokenizer = tokenizer_of(small_tokenizer(kMerges));
  const std::string text = "abc \xF0\x9F\xA6\x99 abxx<|endoftext|> 12";
  std::size_t end = 0;
  for (const TokenSpan& token : tokenizer.encode_with_offsets(text)) {
    EXPECT_EQ(token.begin, end);
    EXPECT_EQ(tokenizer.decode({&token.id, 1}),
              text.substr(token.begin, token.end - token.begin));
    end = token.end;
  }
  EXPECT_EQ(end, text.size());
}

TEST(TokenizerTest, DecodesAnyIdOfTheVocabulary) {
  const Tokenizer tokenizer = tokenizer_of(small_tokenizer());
  const std::string text = "any \xE6\x95\xB0 \n\t text";
  EXPECT_EQ(tokenizer.decode(tokenizer.encode(text)), text);
  const std::vector<std::int32_t> above{3, 257}, below{-1};
  EXPECT_EQ(error_of([&] { (void)tokenizer.decode(above); }),
            "token id 257 is outside the vocabulary [0, 257)");
  EXPECT_EQ(error_of([&] { (void)tokenizer.decode(below); }),
            "token id -1 is outside the vocabulary [0, 257)");
}

TEST(TokenizerTest, RefusesTextThatIsNotUtf8) {
  const Tokenizer tokenizer = tokenizer_of(small_tokenizer());
  EXPECT_EQ(error_of([&] { (void)tokenizer.encode("ab\xFF"); }),
            "byte 2 of the text (0xFF) is not valid UTF-8");
}

TEST(TokenizerTest, CompletesTheAlphabetFromAddedTokens) {
  json tokenizer = small_tokenizer();
  tokenizer["model"]["vocab"].erase(spelled("\xF6"));
  tokenizer["added_tokens"].push_back(added(300, spelled("\xF6")));  // "ö"
  const Tokenizer made = tokenizer_of(tokenizer);
  EXPECT_THAT(made.encode("\xC3\xB6"), ElementsAre(1 + 0xC3, 1 + 0xB6));
  const std::int32_t id = 300;
  EXPECT_EQ(made.decode({&id, 1}), "\xF6");
}

TEST(TokenizerTest, KnowsItsSpecialTokens) {
  const Tokenizer tokenizer = tokenizer_of(small_tokenizer());
  EXPECT_EQ(tokenizer.end_of_text(), 0);
  EXPECT_EQ(tokenizer.id_of("<|endoftext|>"), 0);
  EXPECT_EQ(tokenizer.id_of(spelled(" ")), 33);
  EXPECT_EQ(tokenizer.id_of("nothing"), std::nullopt);
  EXPECT_TRUE(tokenizer.is_special(0));
  EXPECT_FALSE(tokenizer.is_special(33));
  EXPECT_FALSE(tokenizer.is_special(9999));
}

TEST(TokenizerTest, EncodesInSeveralThreadsAtOnce) {
  const Tokenizer one = tokenizer_of(small_tokenizer(kMerges));
  const Tokenizer other = tokenizer_of(small_tokenizer());
  const std::string text = "abc abx xxxx ab 123 abc";
  const auto expected_one = one.encode(text),
             expected_other = other.encode(text);
  std::vector<std::thread> threads;
  std::vector<int> wrong(4, 0);
  for (int& mine : wrong) {
    threads.emplace_back([&] {
      for (int i = 0; i < 200; ++i) {
        mine += one.encode(text) != expected_one;
        mine += other.encode(text) != expected_other;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_THAT(wrong, ElementsAre(0, 0, 0, 0));
}

class TokenizerFileTest : public FolderTest {};

TEST_F(TokenizerFileTest, LoadsAFileOrItsFolder) {
  const auto path =
      write("tokenizer.json", json_text(small_tokenizer(kMerges)));
  EXPECT_EQ(Tokenizer::load(path).hash(), Tokenizer::load(folder()).hash());
}

TEST_F(TokenizerFileTest, LoadsGpt2sPairOfFiles) {
  const json whole = small_tokenizer(kMerges);
  std::string merges = "#version: 0.2\n";
  for (const json& merge : whole["model"]["merges"]) {
    merges += merge.get<std::string>() + "\n";
  }
  const auto vocab = write("vocab.json", json_text(whole["model"]["vocab"]));
  const auto merges_path = write("merges.txt", merges);
  const std::string text = "abc <|endoftext|> abxx";
  const auto expected = tokenizer_of(whole).encode(text);
  for (const auto& path : {vocab, merges_path, folder()}) {
    const Tokenizer made = Tokenizer::load(path);
    EXPECT_EQ(made.encode(text), expected);
    // What it says it is gives the same tokenizer again.
    EXPECT_EQ(Tokenizer::from_json(made.json(), "x").encode(text), expected);
  }
}

TEST_F(TokenizerFileTest, TakesTheEndOfTextFromTheConfiguration) {
  json tokenizer = small_tokenizer();
  tokenizer["added_tokens"][0]["content"] = "<stop>";
  tokenizer["model"]["vocab"].erase("<|endoftext|>");
  write("tokenizer.json", json_text(tokenizer));
  EXPECT_EQ(Tokenizer::load(folder()).end_of_text(), std::nullopt);
  write("tokenizer_config.json", R"({"eos_token": {"content": "<stop>"}})");
  EXPECT_EQ(Tokenizer::load(folder()).end_of_text(), 0);
  write("tokenizer_config.json", R"({"eos_token": "<stop>"})");
  EXPECT_EQ(Tokenizer::load(folder()).end_of_text(), 0);
}

}  // namespace
}  // namespace catena::data
