#include "training/data/tokenizer_trainer.h"

#include <map>
#include <random>

#include "tests/training/data/data_fixture.h"

namespace catena::data {
namespace {

using ::testing::ElementsAre;

// The specification: count all pairs from scratch for every merge.
std::vector<std::pair<std::int32_t, std::int32_t>> obvious_merges(
    const PieceCounts& pieces, std::int64_t tokens) {
  std::map<std::vector<std::int32_t>, std::int64_t> words;
  for (const auto& [text, count] : pieces) {
    std::vector<std::int32_t> symbols;
    for (const char c : text) {
      symbols.push_back(static_cast<unsigned char>(c));
    }
    words[symbols] += count;
  }
  std::vector<std::string> names;
  for (int b = 0; b < 256; ++b) names.emplace_back(1, static_cast<char>(b));
  std::vector<std::pair<std::int32_t, std::int32_t>> merges;
  while (static_cast<std::int64_t>(names.size()) < 256 + tokens) {
    std::map<std::pair<std::int32_t, std::int32_t>, std::int64_t> counts;
    for (const auto& [word, count] : words) {
      for (std::size_t i = 0; i + 1 < word.size(); ++i) {
        counts[{word[i], word[i + 1]}] += count;
      }
    }
    std::pair<std::int32_t, std::int32_t> best;
    std::int64_t most = 1;
    for (const auto& [pair, count] : counts) {
      if (count > most) {
        most = count;
        best = pair;
      }
    }
    if (most < 2) return merges;
    merges.push_back(best);
    const std::string name = names[static_cast<std::size_t>(best.first)] +
                             names[static_cast<std::size_t>(best.second)];
    auto merged = static_cast<std::int32_t>(
        std::find(names.begin(), names.end(), name) - names.begin());
    if (merged == static_cast<std::int32_t>(names.size())) {
      names.push_back(name);
    }
    std::map<std::vector<std::int32_t>, std::int64_t> next;
    for (const auto& [word, count] : words) {
      std::vector<std::int32_t> out;
      for (std::size_t i = 0; i < word.size(); ++i) {
        if (i + 1 < word.size() && std::pair(word[i], word[i + 1]) == best) {
          out.push_back(merged);
          ++i;
        } else {
          out.push_back(word[i]);
        }
      }
      next[out] += count;
    }
    words = std::move(next);
  }
  return merges;
}

TEST(LearnMergesTest, AgreesWithCountingFromScratch) {
  std::mt19937 random(3);
  for (int round = 0; round < 20; ++round) {
    PieceCounts pieces;
    for (int i = 0; i < 30; ++i) {
      std::string piece;
      const std::size_t size = 1 + random() % 9;
      while (piece.size() < size) piece += "aabc"[random() % 4];
      pieces[piece] += 1 + random() % 5;
    }
    std::vector<std::pair<std::int32_t, std::int32_t>> found;
    for (const LearnedMerge& merge : learn_merges(pieces, 25)) {
      found.emplace_back(merge.left, merge.right);
    }
    EXPECT_EQ(found, obvious_merges(pieces, 25)) << "round " << round;
  }
}

class TokenizerTrainerTest : public FolderTest {
 protected:
  TrainTokenizerOptions options(const std::filesystem::path& input,
                                std::int64_t vocabulary) const {
    TrainTokenizerOptions made;
    made.inputs = {input};
    made.vocabulary = vocabulary;
    made.threads = 1;
    return made;
  }
};

TEST_F(TokenizerTrainerTest, LearnsTheMostFrequentPairs) {
  const auto path = write("a.txt", "low low low lower lower newest");
  const auto trained = train_tokenizer(options(path, 260));
  EXPECT_EQ(trained.vocabulary, 260);
  const auto json = json_of(trained.json);
  EXPECT_THAT(json["model"]["merges"],
              ElementsAre("l o", "lo w", "\xC4\xA0 low"));
  const Tokenizer tokenizer = Tokenizer::from_json(trained.json, "trained");
  EXPECT_EQ(tokenizer.end_of_text(), 0);
  EXPECT_THAT(tokenizer.encode("low low<|endoftext|>"),
              ElementsAre(258, 259, 0));
}

TEST_F(TokenizerTrainerTest, DoesNotDependOnThreadsOrRowOrder) {
  std::string rows, reversed;
  std::mt19937 random(1);
  for (int i = 0; i < 3000; ++i) {
    std::string text;
    for (int word = 0; word < 120; ++word) {
      text += "abcdef"[random() % 6];
      text += "ghij k "[random() % 7];
    }
    const std::string row = R"({"text": ")" + text + "\"}\n";
    rows += row;
    reversed.insert(0, row);
  }
  const auto path = write("a.jsonl", rows);
  auto one = options(path, 500);
  auto three = one;
  three.threads = 3;
  auto backwards = options(write("b.jsonl", reversed), 500);
  const auto expected = train_tokenizer(one);
  EXPECT_EQ(expected.vocabulary, 500);
  EXPECT_EQ(train_tokenizer(three).json, expected.json);
  EXPECT_EQ(train_tokenizer(backwards).json, expected.json);
}

TEST_F(TokenizerTrainerTest, StopsWhereNoPairRepeats) {
  const auto trained = train_tokenizer(options(write("a.txt", "abcd"), 1000));
  EXPECT_EQ(trained.vocabulary, 257);
}

TEST_F(TokenizerTrainerTest, RefusesWhatCannotBeTrained) {
  const auto path = write("a.txt", "  \n");
  EXPECT_EQ(error_of([&] { (void)train_tokenizer(options(path, 300)); }),
            path.string() + ": no text to train a tokenizer on");
  EXPECT_EQ(error_of([&] { (void)train_tokenizer(options(path, 256)); },
                     ErrorKind::kUsage),
            "a vocabulary of 256 tokens: must be from 257 (256 bytes and the "
            "end of text) to 4194304");
}

TEST(QuickstartTokenizerTest, IsWhatTrainingOnTheSampleGives) {
  const std::filesystem::path folder =
      std::filesystem::path(CATENA_SOURCE_DIR) / "data/quickstart";
  TrainTokenizerOptions options;
  options.inputs = {folder / "train.jsonl"};
  options.vocabulary = 2048;
  EXPECT_EQ(train_tokenizer(options).json,
            catena::read_file(folder / "tokenizer.json"));
}

}  // namespace
}  // namespace catena::data
