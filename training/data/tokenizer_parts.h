#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "training/data/added_tokens.h"
#include "training/data/byte_pair.h"
#include "training/data/pre_tokenizer.h"
#include "training/data/vocabulary.h"

namespace catena::data {

/// What a tokenizer.json describes, ready to encode with.
struct TokenizerParts {
  bool compose = false;  ///< normaliser: NFC
  PreTokenizer pre_tokenizer;
  Vocabulary vocabulary;
  BytePairEncoder encoder;
  std::vector<AddedToken> added;  ///< without those that complete the alphabet
};

/// Reads a tokenizer.json.
/// Throws: Error(kData): "NAME:LINE:COLUMN: ..." for malformed JSON, "NAME:
/// key ..." for what is missing, wrong or not supported.
[[nodiscard]] TokenizerParts parse_tokenizer_json(std::string_view json,
                                                  const std::string& name);

/// The tokenizer.json that stands for GPT-2's pair of files.
/// Throws: Error(kData) with file and line.
[[nodiscard]] std::string tokenizer_json_from_merges(
    std::string_view vocab_json, const std::string& vocab_name,
    std::string_view merges_text, const std::string& merges_name);

/// A byte-level tokenizer.json with GPT-2's pre-tokenizer. `vocabulary` and
/// `merges` in the byte alphabet, ids by position; `special` are tokens of the
/// vocabulary that are matched in text.
struct TokenizerDescription {
  std::vector<std::string> vocabulary;
  std::vector<std::string> merges;  ///< "left right"
  std::vector<std::string> special;
};
[[nodiscard]] std::string write_tokenizer_json(
    const TokenizerDescription& description);

}  // namespace catena::data
