#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "runtime/base/error.h"
#include "training/data/byte_alphabet.h"
#include "training/data/tokenizer.h"
#include "training/data/tokenizer_parts.h"

/// Any bytes as a tokenizer.json, as the parts of one that matter most, and as
/// merges.txt: either Error(kData) comes out or a tokenizer whose tokens lie
/// in its vocabulary and inside the text.

namespace {

using catena::data::Tokenizer;

constexpr std::string_view kText = "a b\xC3\xA9 12 -x<a>  \n\xE6\x95\xB0";

void use(const Tokenizer& tokenizer) {
  for (const auto& token : tokenizer.encode_with_offsets(kText)) {
    if (token.id < 0 || token.id >= tokenizer.vocabulary_size() ||
        token.begin > token.end || token.end > kText.size()) {
      std::abort();
    }
    if (tokenizer.decode({&token.id, 1}).empty()) std::abort();
  }
}

// A whole vocabulary of bytes, with `part` put in one place.
std::string wrapped(std::uint8_t place, const std::string& part) {
  static const std::string vocabulary = [] {
    catena::data::TokenizerDescription description;
    for (int byte = 0; byte < 256; ++byte) {
      std::string raw(1, static_cast<char>(byte));
      description.vocabulary.push_back(catena::data::spelled(raw));
    }
    const std::string whole = write_tokenizer_json(description);
    const auto begin = whole.find("\"vocab\"");
    return whole.substr(begin, whole.find('}', begin) + 1 - begin);
  }();
  const std::string level = R"({"type": "ByteLevel", "use_regex": false})";
  std::string stages = level, merges = "[]", added = "[]", normalizer = "null";
  if (place == 1) stages = part;
  if (place == 2) merges = part;
  if (place == 3) added = part;
  if (place == 4) normalizer = part;
  if (place == 5) {
    stages = R"({"type": "Sequence", "pretokenizers": [{"type": "Split",)"
             R"("pattern": {"Regex": ")" +
             part + R"("}, "behavior": "Isolated"}, )" + level + "]}";
  }
  return R"({"pre_tokenizer": )" + stages + R"(, "normalizer": )" + normalizer +
         R"(, "added_tokens": )" + added + R"(, "model": {"type": "BPE", )" +
         vocabulary + R"(, "merges": )" + merges + "}}";
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data,
                                      std::size_t size) {
  if (size == 0) return 0;
  const std::string bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  const auto place = static_cast<std::uint8_t>(data[0] % 7);
  try {
    if (place == 6) {
      use(Tokenizer::from_json(catena::data::tokenizer_json_from_merges(
                                   R"({"a": 0, "b": 1, "ab": 2})", "vocab.json",
                                   bytes, "merges.txt"),
                               "fuzz"));
    } else {
      use(Tokenizer::from_json(place == 0 ? bytes : wrapped(place, bytes),
                               "fuzz"));
    }
  } catch (const catena::Error& error) {
    if (error.kind() != catena::ErrorKind::kData) std::abort();
  }
  return 0;
}
