#pragma once

#include "training/data/json_node.h"
#include "training/data/pre_tokenizer.h"

namespace catena::data {

/// Reads the `pre_tokenizer` of a tokenizer.json: ByteLevel, alone or last in
/// a Sequence of Split and Digits.
/// Throws: Error(kData) naming file and key for anything else.
[[nodiscard]] PreTokenizer parse_pre_tokenizer(const JsonNode& node);

/// Reads the `normalizer`: true for NFC, false for none.
/// Throws: Error(kData) naming file and key for anything else.
[[nodiscard]] bool parse_normalizer(const JsonNode& node);

/// Checks that the `decoder` undoes ByteLevel and nothing else.
/// Throws: Error(kData).
void check_decoder(const JsonNode& node);

}  // namespace catena::data
