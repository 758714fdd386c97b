#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "training/data/corpus.h"

namespace catena::data {

struct TrainTokenizerOptions {
  std::vector<std::filesystem::path> inputs;
  std::int64_t vocabulary = 0;  ///< tokens, special ones and 256 bytes included
  std::string row_template = std::string(RowTemplate::kDefault);
  std::string end_of_text = "<|endoftext|>";
  bool skip_bad_rows = false;
  int threads = 0;  ///< 0: as many as there are cores
  /// Bytes read so far, bytes in all; from one thread at a time.
  std::function<void(std::int64_t, std::int64_t)> progress;
};

struct TrainedTokenizer {
  std::string json;             ///< tokenizer.json
  std::int64_t vocabulary = 0;  ///< less than asked if the text ran out
  std::int64_t documents = 0;
  BadRows bad_rows;
};

/// Learns a byte-level byte-pair encoding: the text of all rows, split by
/// GPT-2's pattern; again and again the most frequent pair of neighbours, at
/// least twice in the corpus, becomes a token (ties: the pair with the smaller
/// ids). Ids: end of text, 256 bytes, merges in order. The outcome does not
/// depend on the number of threads or the order of rows.
/// Throws: Error(kUsage) for fewer than 257 tokens, Error(kData) as parse_row
/// and for an empty corpus.
/// Source: Sennrich et al., arXiv:1508.07909; bytes as GPT-2.
[[nodiscard]] TrainedTokenizer train_tokenizer(
    const TrainTokenizerOptions& options);

/// How often each piece occurs.
using PieceCounts = std::unordered_map<std::string, std::int64_t>;

struct LearnedMerge {
  std::int32_t left, right;  ///< ids: 0-255 bytes, 256 + i the i-th new token
  std::int32_t merged;       ///< a new id, or that of an equal older token
};

/// The learning step alone: at most `tokens` new tokens.
[[nodiscard]] std::vector<LearnedMerge> learn_merges(const PieceCounts& pieces,
                                                     std::int64_t tokens);

}  // namespace catena::data
