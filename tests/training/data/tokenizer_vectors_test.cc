#include <cstdlib>
#include <fstream>

#include "tests/training/data/data_fixture.h"

/// Published token ids and large tokenizers, which are no part of the project:
/// taken from $CATENA_SHARED_DIR or from ../shared beside the sources.

namespace catena::data {
namespace {

namespace fs = std::filesystem;

fs::path tokenizers() {
  const char* given = std::getenv("CATENA_SHARED_DIR");
  const fs::path shared =
      given != nullptr ? fs::path(given)
                       : fs::path(CATENA_SOURCE_DIR).parent_path() / "shared";
  return shared / "data/tokenizers";
}

class TokenizerVectorsTest : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    folder_ = tokenizers() / GetParam();
    if (!fs::exists(folder_)) {
      GTEST_SKIP() << "NOT CHECKED: no tokenizer at " << folder_
                   << "; set CATENA_SHARED_DIR to the folder that holds data/";
    }
  }

  fs::path folder_;
};

class PublishedIdsTest : public TokenizerVectorsTest {};

TEST_P(PublishedIdsTest, EveryRowAgrees) {
  const Tokenizer tokenizer = Tokenizer::load(folder_);
  std::ifstream rows(folder_ / "test_vectors.jsonl");
  std::string line;
  int count = 0;
  for (; std::getline(rows, line); ++count) {
    const auto row = json_of(line);
    const auto text = row["text"].get<std::string>();
    const auto expected = row["ids"].get<std::vector<std::int32_t>>();
    EXPECT_EQ(tokenizer.encode(text), expected) << text;
    EXPECT_EQ(tokenizer.decode(expected), text);
  }
  EXPECT_GE(count, 47);
}

INSTANTIATE_TEST_SUITE_P(All, PublishedIdsTest,
                         ::testing::Values("deepseek-v2", "gpt2"));

class RoundTripTest : public TokenizerVectorsTest {};

// decode(encode(x)) is x in normalisation form C.
TEST_P(RoundTripTest, GivesTheComposedTextBack) {
  const Tokenizer tokenizer = Tokenizer::load(folder_);
  ASSERT_TRUE(tokenizer.end_of_text());
  const std::pair<std::string, std::string> texts[] = {
      {"plain text, 12 345.", "plain text, 12 345."},
      {"e\xCC\x81 A\xCC\x8A", "\xC3\xA9 \xC3\x85"},
      {"      many   spaces\n\n\t", "      many   spaces\n\n\t"},
      {"<|endoftext|>|||IP_ADDRESS|||", "<|endoftext|>|||IP_ADDRESS|||"},
      {"\xE6\x95\xB0\xE5\xAD\xA6 \xF0\x9F\xA6\x99",
       "\xE6\x95\xB0\xE5\xAD\xA6 \xF0\x9F\xA6\x99"}};
  for (const auto& [text, composed] : texts) {
    EXPECT_EQ(tokenizer.decode(tokenizer.encode(text)), composed);
  }
}

INSTANTIATE_TEST_SUITE_P(All, RoundTripTest,
                         ::testing::Values("olmoe", "pythia"));

}  // namespace
}  // namespace catena::data
