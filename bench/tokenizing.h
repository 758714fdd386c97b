#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "training/data/corpus.h"

namespace catena::bench {

/// Documents of a corpus as preparing data makes them, up to `limit` bytes.
struct Text {
  std::vector<data::Document> documents;
  double bytes = 0;
};
[[nodiscard]] Text read_text(const std::filesystem::path& path,
                             std::size_t limit);

/// How fast one thread turns text into tokens.
struct TokenizingSpeed {
  double first_pass = 0;  ///< bytes a second, no word met before
  double later = 0;       ///< median of the passes after that
  double bytes_a_token = 0;
};
/// With offsets, as a corpus of queries and responses needs them.
[[nodiscard]] TokenizingSpeed time_tokenizing(
    const std::filesystem::path& tokenizer, const Text& text);

}  // namespace catena::bench
