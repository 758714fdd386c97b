#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <vector>

#include "training/data/dataset_format.h"

namespace catena::data {

/// Writes token shards and the index of a data set, document by document.
/// Thread rule: one thread.
class DatasetWriter {
 public:
  /// A new shard begins once one holds `shard_tokens`. `token_bytes`: 2 or 4.
  /// Removes what an unfinished run left in `folder`.
  DatasetWriter(std::filesystem::path folder, std::int64_t shard_tokens,
                std::uint32_t token_bytes);
  ~DatasetWriter();

  void add(std::span<const std::int32_t> tokens, std::int64_t response_start);

  /// Completes all files but dataset.json and fills in what it says of them.
  void finish(DatasetManifest& manifest);

 private:
  void finish_shard();

  std::filesystem::path folder_;
  std::int64_t shard_tokens_;
  std::uint32_t token_bytes_;
  std::vector<std::byte> shard_;  // header and tokens of the shard being made
  std::vector<std::uint64_t> first_tokens_{0}, response_starts_;
  std::uint64_t shard_first_token_ = 0;
  std::int64_t response_tokens_ = 0;
  std::vector<DatasetFileInfo> shards_;
};

/// Writes a file of a data set whole and describes it.
DatasetFileInfo write_dataset_file(const std::filesystem::path& folder,
                                   const std::string& name,
                                   std::string_view content);

}  // namespace catena::data
