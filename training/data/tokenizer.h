#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace catena::data {

/// A token and the bytes of the original text it stands for.
struct TokenSpan {
  std::int32_t id;
  std::size_t begin, end;
  bool operator==(const TokenSpan&) const = default;
};

/// Byte-level byte-pair encoding, as Hugging Face `tokenizers` computes it
/// with add_special_tokens = false:
///
///   added tokens cut the text; the rest is normalised (NFC or nothing), split
///   by the pre-tokenizer's stages, spelled in bytes and merged, lowest rank
///   first.
///
/// One deviation: an added token that is the byte-alphabet letter of a byte
/// missing from the vocabulary (DeepSeek-V2's "ö" for 0xF6, a byte that UTF-8
/// never holds) completes the alphabet and is not looked for in text.
/// Thread rule: const after loading, any number of threads.
class Tokenizer {
 public:
  /// `path`: a tokenizer.json, a folder that holds one, or GPT-2's vocab.json
  /// or merges.txt (or their folder). A tokenizer_config.json beside it may
  /// name the end-of-text token.
  /// Throws: Error(kData) in one line with file and key if something is
  /// missing, malformed or of a kind not supported (Unigram, WordPiece,
  /// byte_fallback, Metaspace, ...).
  static Tokenizer load(const std::filesystem::path& path);
  /// From the bytes of a tokenizer.json. `name` stands for it in errors.
  static Tokenizer from_json(std::string_view json, const std::string& name);

  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;
  ~Tokenizer();

  /// Throws: Error(kData) naming the offset if `text` is not UTF-8.
  [[nodiscard]] std::vector<std::int32_t> encode(std::string_view text) const;
  [[nodiscard]] std::vector<TokenSpan> encode_with_offsets(
      std::string_view text) const;

  /// The bytes the ids stand for, special tokens included; not valid UTF-8 if
  /// the ids begin or end inside a character.
  /// Throws: Error(kData) for an id outside [0, vocabulary_size()).
  [[nodiscard]] std::string decode(std::span<const std::int32_t> ids) const;

  /// Largest id + 1. A model may have more rows (padding).
  [[nodiscard]] std::int32_t vocabulary_size() const;
  /// Id of an added token by its content or of any token by its spelling in
  /// the byte alphabet ("Ġthe").
  [[nodiscard]] std::optional<std::int32_t> id_of(
      std::string_view content) const;
  /// The token that ends a document: the first of the well-known names that is
  /// an added token ("<|endoftext|>", "</s>", ...), else the eos_token of
  /// tokenizer_config.json.
  [[nodiscard]] std::optional<std::int32_t> end_of_text() const;
  /// True for an added token marked special.
  [[nodiscard]] bool is_special(std::int32_t id) const;

  /// The tokenizer.json that gives this tokenizer: the file's own bytes, or
  /// made from vocab.json and merges.txt.
  [[nodiscard]] const std::string& json() const;
  /// Hash of json().
  [[nodiscard]] std::uint64_t hash() const;

 private:
  struct Implementation;
  explicit Tokenizer(std::unique_ptr<Implementation> implementation);

  std::unique_ptr<Implementation> implementation_;
};

}  // namespace catena::data
