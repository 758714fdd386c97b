#include "tests/training/data/data_fixture.h"

/// A tokenizer that cannot be used is refused in one line that names the file
/// and the key.

namespace catena::data {
namespace {

using nlohmann::json;

struct Refusal {
  const char* pointer;  // JSON pointer of what is changed
  json value;
  const char* message;
};

// Names the case in the test runner's list.
void PrintTo(const Refusal& refusal, std::ostream* out) {
  *out << refusal.pointer << " = " << json_text(refusal.value);
}

class TokenizerRefusalTest : public ::testing::TestWithParam<Refusal> {};

TEST_P(TokenizerRefusalTest, NamesFileAndKey) {
  json tokenizer = small_tokenizer({{"a", "b"}});
  tokenizer[json::json_pointer(GetParam().pointer)] = GetParam().value;
  const std::string message = error_of([&] { tokenizer_of(tokenizer); });
  EXPECT_EQ(message, std::string("tokenizer.json: ") + GetParam().message);
}

const json kByteLevel = {{"type", "ByteLevel"}};

INSTANTIATE_TEST_SUITE_P(
    Kinds, TokenizerRefusalTest,
    ::testing::Values(
        Refusal{"/model/type", "Unigram",
                "model.type is \"Unigram\"; the only kind supported is "
                "byte-level \"BPE\""},
        Refusal{"/model/type", "WordPiece",
                "model.type is \"WordPiece\"; the only kind supported is "
                "byte-level \"BPE\""},
        Refusal{"/model/byte_fallback", true,
                "model.byte_fallback is true; only byte-level tokenizers are "
                "supported"},
        Refusal{"/model/continuing_subword_prefix", "##",
                "model.continuing_subword_prefix is set; only byte-level "
                "tokenizers are supported"},
        Refusal{"/model/end_of_word_suffix", "</w>",
                "model.end_of_word_suffix is set; only byte-level tokenizers "
                "are supported"},
        Refusal{"/model/dropout", 0.1,
                "model.dropout is set; encoding must not be random, use null"},
        Refusal{"/normalizer", json{{"type", "Lowercase"}},
                "normalizer.type is \"Lowercase\"; supported are NFC and "
                "none"},
        Refusal{"/normalizer",
                json{{"type", "Sequence"},
                     {"normalizers", json::array({json{{"type", "Prepend"}}})}},
                "normalizer.normalizers[0].type is \"Prepend\"; supported are "
                "NFC and none"},
        Refusal{"/pre_tokenizer", json{{"type", "Metaspace"}},
                "pre_tokenizer.type is \"Metaspace\"; supported are Sequence, "
                "Split, Digits and ByteLevel"},
        Refusal{"/pre_tokenizer", nullptr,
                "pre_tokenizer has no ByteLevel; only byte-level tokenizers "
                "are supported"},
        Refusal{"/decoder", json{{"type", "Metaspace"}},
                "decoder.type is \"Metaspace\"; the only one supported is "
                "ByteLevel"}));

json sequence(const json& first, const json& second) {
  return {{"type", "Sequence"},
          {"pretokenizers", json::array({first, second})}};
}

json split(const json& pattern, const char* behavior) {
  return {{"type", "Split"}, {"pattern", pattern}, {"behavior", behavior}};
}

INSTANTIATE_TEST_SUITE_P(
    Stages, TokenizerRefusalTest,
    ::testing::Values(
        Refusal{"/pre_tokenizer",
                sequence(kByteLevel, json{{"type", "Digits"}}),
                "pre_tokenizer.pretokenizers[1] stands behind ByteLevel, which "
                "must be last"},
        Refusal{"/pre_tokenizer",
                sequence(split(json{{"Regex", "(a"}}, "Isolated"), kByteLevel),
                "pre_tokenizer.pretokenizers[0].pattern.Regex cannot be used: "
                "pattern \"(a\": missing closing parenthesis at offset 2"},
        Refusal{"/pre_tokenizer",
                sequence(split(json{{"Regex", "a"}}, "Joined"), kByteLevel),
                "pre_tokenizer.pretokenizers[0].behavior is \"Joined\"; "
                "expected Removed, Isolated, MergedWithPrevious, "
                "MergedWithNext or Contiguous"},
        Refusal{"/pre_tokenizer",
                sequence(split(json{{"String", ""}}, "Removed"), kByteLevel),
                "pre_tokenizer.pretokenizers[0].pattern.String is empty"},
        Refusal{"/pre_tokenizer",
                sequence(split(json::object(), "Removed"), kByteLevel),
                "pre_tokenizer.pretokenizers[0].pattern has neither \"Regex\" "
                "nor \"String\""}));

INSTANTIATE_TEST_SUITE_P(
    Values, TokenizerRefusalTest,
    ::testing::Values(
        Refusal{"/model/vocab/a", "x",
                "model.vocab gives \"a\" an id that is not an integer"},
        Refusal{"/model/vocab/a", -1,
                "model.vocab is wrong: token \"a\" has id -1, which is not in "
                "[0, 4194304)"},
        Refusal{"/model/vocab/a", 99,
                "model.vocab is wrong: token \"b\" has id 99, which another "
                "token has too"},
        Refusal{"/model/merges/0", "a  b",
                "model.merges[0] is \"a  b\", expected two tokens and one "
                "space"},
        Refusal{"/model/merges/0", json::array({"a"}),
                "model.merges[0] is not a pair"},
        Refusal{"/model/merges/0", "b a",
                "model.merges[0] needs the token \"ba\", which is not in "
                "model.vocab"},
        Refusal{"/model/merges", "a b",
                "model.merges is a string, expected an array"},
        Refusal{"/model/vocab", nullptr,
                "model.vocab is missing; it must be an object"},
        Refusal{"/added_tokens/0/id", 7,
                "added_tokens[0] is wrong: token \"<|endoftext|>\" has two "
                "ids, 0 and 7"},
        Refusal{"/added_tokens/0/content", 3,
                "added_tokens[0].content is a number, expected a string"},
        Refusal{"/model", nullptr,
                "the file has no \"model\": not a tokenizer.json"}));

TEST(TokenizerSyntaxTest, NamesLineAndColumn) {
  EXPECT_EQ(error_of([] { Tokenizer::from_json("{\n \"a\": }", "t.json"); }),
            "t.json:2:7: not valid JSON: syntax error while parsing value - "
            "unexpected '}'; expected '[', '{', or a literal");
  EXPECT_EQ(
      error_of([] { Tokenizer::from_json("{\"a\": \"\xFF\"}", "t.json"); }),
      "t.json:1:8: byte 0xFF is not valid UTF-8");
  EXPECT_EQ(error_of([] { Tokenizer::from_json("[]", "t.json"); }),
            "t.json: the file is an array, expected an object");
}

class TokenizerRefusalFileTest : public FolderTest {};

TEST_F(TokenizerRefusalFileTest, SaysWhatToGive) {
  const std::string missing = (folder() / "none").string();
  EXPECT_EQ(error_of([&] { Tokenizer::load(missing); }),
            missing +
                ": no such file; give a tokenizer.json, a folder that "
                "holds one, or GPT-2's vocab.json");
  EXPECT_EQ(error_of([&] { Tokenizer::load(folder()); }),
            folder().string() +
                ": neither a tokenizer.json nor vocab.json and merges.txt "
                "there");
  write("vocab.json", "{\"a\": 0}");
  const auto merges = write("merges.txt", "#version: 0.2\na b c\n");
  EXPECT_EQ(error_of([&] { Tokenizer::load(folder()); }),
            merges.string() + ":2:1: expected two tokens and one space");
}

}  // namespace
}  // namespace catena::data
