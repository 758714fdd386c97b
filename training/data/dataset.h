#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "runtime/base/files.h"
#include "training/data/dataset_format.h"

namespace catena::data {

enum class Verify {
  kStructure,  ///< sizes, headers and the whole index: reads no tokens
  kContent,    ///< and every file's hash: reads all of it once
};

/// A prepared data set, mapped into memory and never changed.
/// Thread rule: const, any number of threads.
class Dataset {
 public:
  /// Throws: Error(kData) naming the file and what to do if the folder is not
  /// a whole data set: a file missing, truncated or altered, another version,
  /// offsets out of order.
  explicit Dataset(const std::filesystem::path& folder,
                   Verify verify = Verify::kContent);

  [[nodiscard]] std::int64_t documents() const { return index_.documents(); }
  [[nodiscard]] std::int64_t tokens() const { return index_.tokens(); }
  /// Tokens of one document, its end of text included if there is one.
  [[nodiscard]] std::int64_t length(std::int64_t document) const {
    return index_.length(document);
  }
  /// Tokens of the document in front of its response; 0 if it has no query.
  [[nodiscard]] std::int64_t response_start(std::int64_t document) const {
    return index_.response_start(document);
  }

  /// Replaces `out` by tokens [begin, begin + count) of a document.
  /// Throws: Error(kData) for a token id outside the vocabulary.
  void read(std::int64_t document, std::int64_t begin, std::int64_t count,
            std::vector<std::int32_t>& out) const;
  [[nodiscard]] std::vector<std::int32_t> tokens(std::int64_t document) const;

  [[nodiscard]] const DatasetManifest& manifest() const { return manifest_; }
  [[nodiscard]] const std::filesystem::path& folder() const { return folder_; }
  /// The tokenizer.json that made it.
  [[nodiscard]] std::filesystem::path tokenizer_path() const;
  /// Hash of everything in it: the same for the same tokens in the same order.
  [[nodiscard]] std::uint64_t hash() const;

 private:
  struct Shard {
    MappedFile file;
    ShardHeader header;
  };
  [[nodiscard]] MappedFile open_file(const DatasetFileInfo& info,
                                     Verify verify) const;
  void open_shards(Verify verify);
  [[nodiscard]] const Shard& shard_of(std::int64_t token) const;

  std::filesystem::path folder_;
  DatasetManifest manifest_;
  MappedFile index_file_;
  DatasetIndex index_;
  std::vector<Shard> shards_;
};

}  // namespace catena::data
