#include "training/data/dataset_writer.h"

#include <cstring>

#include "runtime/base/error.h"
#include "runtime/base/files.h"
#include "runtime/base/hash.h"

namespace catena::data {
namespace fs = std::filesystem;
namespace {

template <class T>
std::string_view bytes_of(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()),
          values.size() * sizeof(T)};
}

void remove_leftovers(const fs::path& folder) {
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    const bool shard = name.starts_with("tokens-") && name.ends_with(".bin");
    if (shard || name == kIndexFile) fs::remove(entry.path());
  }
}

}  // namespace

DatasetFileInfo write_dataset_file(const fs::path& folder,
                                   const std::string& name,
                                   std::string_view content) {
  write_file_atomically(folder / name, content);
  return {name, static_cast<std::int64_t>(content.size()),
          hexadecimal(hash64(content))};
}

DatasetWriter::DatasetWriter(fs::path folder, std::int64_t shard_tokens,
                             std::uint32_t token_bytes)
    : folder_(std::move(folder)),
      shard_tokens_(shard_tokens),
      token_bytes_(token_bytes),
      shard_(sizeof(ShardHeader)) {
  CATENA_CHECK(shard_tokens > 0, "[data set] shards of {} tokens",
               shard_tokens);
  std::error_code error;
  fs::create_directories(folder_, error);
  if (error) {
    fail(ErrorKind::kIo, "{}: cannot be made: {}", folder_.string(),
         error.message());
  }
  remove_leftovers(folder_);
}

DatasetWriter::~DatasetWriter() = default;

void DatasetWriter::add(std::span<const std::int32_t> tokens,
                        std::int64_t response_start) {
  const std::size_t begin = shard_.size();
  shard_.resize(begin + tokens.size() * token_bytes_);
  std::byte* out = shard_.data() + begin;
  for (const std::int32_t token : tokens) {
    // Little-endian: the low bytes come first.
    std::memcpy(out, &token, token_bytes_);
    out += token_bytes_;
  }
  first_tokens_.push_back(first_tokens_.back() + tokens.size());
  response_starts_.push_back(static_cast<std::uint64_t>(response_start));
  response_tokens_ += static_cast<std::int64_t>(tokens.size()) - response_start;
  const std::uint64_t size = first_tokens_.back() - shard_first_token_;
  if (size >= static_cast<std::uint64_t>(shard_tokens_)) finish_shard();
}

void DatasetWriter::finish_shard() {
  ShardHeader header;
  header.token_bytes = token_bytes_;
  header.tokens = first_tokens_.back() - shard_first_token_;
  header.first_token = shard_first_token_;
  std::memcpy(shard_.data(), &header, sizeof header);
  shards_.push_back(write_dataset_file(
      folder_, fmt::format("tokens-{:05}.bin", shards_.size()),
      bytes_of(shard_)));
  shard_.resize(sizeof(ShardHeader));
  shard_first_token_ = first_tokens_.back();
}

void DatasetWriter::finish(DatasetManifest& manifest) {
  if (shard_.size() > sizeof(ShardHeader)) finish_shard();
  IndexHeader header;
  header.documents = response_starts_.size();
  header.tokens = first_tokens_.back();
  std::string index(reinterpret_cast<const char*>(&header), sizeof header);
  index += bytes_of(first_tokens_);
  index += bytes_of(response_starts_);
  manifest.index = write_dataset_file(folder_, kIndexFile, index);
  manifest.documents = static_cast<std::int64_t>(header.documents);
  manifest.tokens = static_cast<std::int64_t>(header.tokens);
  manifest.response_tokens = response_tokens_;
  manifest.shards = shards_;
}

}  // namespace catena::data
