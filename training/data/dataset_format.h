#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace catena::data {

/// A prepared data set is a folder:
///
///   tokens-00000.bin, ...  ShardHeader, then tokens, 2 or 4 bytes each
///   index.bin              IndexHeader, then u64 first token of each
///                          document and, last, the number of all tokens; then
///                          u64 per document: tokens in front of its response
///   tokenizer.json         the tokenizer that made it
///   dataset.json           all else, and every file's size and hash; written
///                          last, so a folder without it is no data set
///   dataset.unfinished     empty, there while it is being made: what else is
///                          in the folder is of a preparation, not foreign
///
/// Little-endian. A document lies in one shard.

constexpr std::int64_t kDatasetVersion = 1;
constexpr const char* kDatasetFile = "dataset.json";
constexpr const char* kUnfinishedFile = "dataset.unfinished";
constexpr const char* kIndexFile = "index.bin";

struct ShardHeader {
  static constexpr std::uint64_t kMagic = 0x534E4B5441544143;  // "CATATKNS"
  std::uint64_t magic = kMagic;
  std::uint32_t version = kDatasetVersion;
  std::uint32_t token_bytes = 2;  ///< 2 or 4
  std::uint64_t tokens = 0;
  std::uint64_t first_token = 0;  ///< counted over all shards
};
static_assert(sizeof(ShardHeader) == 32);

struct IndexHeader {
  static constexpr std::uint64_t kMagic = 0x5845444E49544143;  // "CATINDEX"
  std::uint64_t magic = kMagic;
  std::uint32_t version = kDatasetVersion;
  std::uint32_t reserved = 0;
  std::uint64_t documents = 0;
  std::uint64_t tokens = 0;
};
static_assert(sizeof(IndexHeader) == 32);

/// The index, read in place: a view, the bytes must outlive it.
class DatasetIndex {
 public:
  DatasetIndex() = default;
  /// Throws: Error(kData), naming `name`, if anything in it is inconsistent:
  /// size, magic, version, order of the offsets, response starts.
  DatasetIndex(std::span<const std::byte> bytes, const std::string& name);

  [[nodiscard]] std::int64_t documents() const { return documents_; }
  [[nodiscard]] std::int64_t tokens() const { return first_token(documents_); }
  /// document <= documents().
  [[nodiscard]] std::int64_t first_token(std::int64_t document) const {
    return word(static_cast<std::size_t>(document));
  }
  [[nodiscard]] std::int64_t length(std::int64_t document) const {
    return first_token(document + 1) - first_token(document);
  }
  /// Tokens of the document in front of its response; 0 if it has no query.
  [[nodiscard]] std::int64_t response_start(std::int64_t document) const {
    return word(static_cast<std::size_t>(documents_ + 1 + document));
  }
  /// A document that begins at `token`, or nothing.
  [[nodiscard]] bool is_boundary(std::int64_t token) const;

 private:
  [[nodiscard]] std::int64_t word(std::size_t index) const;
  void check_documents(const std::string& name) const;

  std::span<const std::byte> words_;
  std::int64_t documents_ = 0;
};

/// Checks a shard's header against the file's size.
/// Throws: Error(kData), naming `name`.
[[nodiscard]] ShardHeader parse_shard_header(std::span<const std::byte> bytes,
                                             const std::string& name);

struct DatasetFileInfo {
  std::string name;
  std::int64_t bytes = 0;
  std::string hash;  ///< xxh3, 16 hexadecimal digits
};

/// What dataset.json says.
struct DatasetManifest {
  std::string tokenizer_hash;
  std::string source_hash;
  std::int64_t vocabulary = 0;
  std::optional<std::int32_t> end_of_text;
  bool append_end_of_text = true;
  bool skip_bad_rows = false;
  std::string row_template;
  std::int64_t documents = 0, tokens = 0, response_tokens = 0, bad_rows = 0;
  std::vector<std::string> sources;
  std::vector<DatasetFileInfo> shards;  ///< in order
  DatasetFileInfo index, tokenizer;
};

[[nodiscard]] std::string write_manifest(const DatasetManifest& manifest);

/// Throws: Error(kData), naming `name` and the key.
[[nodiscard]] DatasetManifest parse_manifest(std::string_view json,
                                             const std::string& name);

}  // namespace catena::data
