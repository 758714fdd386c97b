#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <span>
#include <string_view>
#include <vector>

#include "runtime/base/error.h"
#include "training/data/dataset_format.h"

/// Any bytes as an index, a shard's header or dataset.json: either Error(kData)
/// comes out or what was read is consistent.

namespace {

using catena::data::DatasetIndex;
using catena::data::IndexHeader;
using catena::data::ShardHeader;
using Bytes = std::span<const std::byte>;

void check_index(Bytes bytes) {
  const DatasetIndex index(bytes, "fuzz");
  std::int64_t tokens = 0;
  for (std::int64_t i = 0; i < index.documents(); ++i) {
    if (index.first_token(i) != tokens || index.length(i) < 0 ||
        index.response_start(i) > index.length(i) ||
        !index.is_boundary(tokens)) {
      std::abort();
    }
    tokens += index.length(i);
  }
  if (index.tokens() != tokens) std::abort();
}

// With a header that fits, so that what is behind it gets read.
std::vector<std::byte> with_header(Bytes words) {
  IndexHeader header;
  header.documents = (words.size() / 8 - 1) / 2;
  std::memcpy(&header.tokens, words.data() + 8 * header.documents, 8);
  std::vector<std::byte> all(sizeof header + (2 * header.documents + 1) * 8);
  std::memcpy(all.data(), &header, sizeof header);
  std::memcpy(all.data() + sizeof header, words.data(),
              all.size() - sizeof header);
  return all;
}

void check_shard(Bytes bytes) {
  const ShardHeader header = catena::data::parse_shard_header(bytes, "fuzz");
  if (header.tokens * header.token_bytes + sizeof header != bytes.size()) {
    std::abort();
  }
}

void check_manifest(Bytes bytes) {
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()),
                              bytes.size());
  const auto manifest = catena::data::parse_manifest(text, "fuzz");
  const auto again =
      catena::data::parse_manifest(write_manifest(manifest), "again");
  if (write_manifest(again) != write_manifest(manifest)) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data,
                                      std::size_t size) {
  if (size == 0) return 0;
  const Bytes bytes(reinterpret_cast<const std::byte*>(data) + 1, size - 1);
  try {
    switch (data[0] % 4) {
      case 0:
        check_index(bytes);
        break;
      case 1:
        if (bytes.size() >= 8) check_index(with_header(bytes));
        break;
      case 2:
        check_shard(bytes);
        break;
      default:
        check_manifest(bytes);
        break;
    }
  } catch (const catena::Error& error) {
    if (error.kind() != catena::ErrorKind::kData) std::abort();
  }
  return 0;
}
