#include "training/data/dataset_format.h"

#include <bit>
#include <cstring>

#include "runtime/base/error.h"

namespace catena::data {
namespace {

static_assert(std::endian::native == std::endian::little,
              "data sets are mapped, not converted");

constexpr const char* kAgain =
    "the data set is damaged, prepare it again (catena data prepare)";

template <class Header>
Header read_header(std::span<const std::byte> bytes, const std::string& name) {
  Header header;
  if (bytes.size() < sizeof header) {
    fail(ErrorKind::kData, "{}: {} bytes, shorter than its header of {}; {}",
         name, bytes.size(), sizeof header, kAgain);
  }
  std::memcpy(&header, bytes.data(), sizeof header);
  if (header.magic != Header::kMagic) {
    fail(ErrorKind::kData, "{}: does not begin as such a file does; {}", name,
         kAgain);
  }
  if (header.version != kDatasetVersion) {
    fail(ErrorKind::kData,
         "{}: format version {}, this program reads version {}; prepare the "
         "data set again with this program",
         name, header.version, kDatasetVersion);
  }
  return header;
}

}  // namespace

DatasetIndex::DatasetIndex(std::span<const std::byte> bytes,
                           const std::string& name) {
  const auto header = read_header<IndexHeader>(bytes, name);
  words_ = bytes.subspan(sizeof header);
  const std::uint64_t words = words_.size() / sizeof(std::uint64_t);
  const bool fits = words_.size() % sizeof(std::uint64_t) == 0 &&
                    header.documents < words &&
                    words == 2 * header.documents + 1;
  if (!fits) {
    fail(ErrorKind::kData, "{}: {} bytes do not hold {} documents; {}", name,
         bytes.size(), header.documents, kAgain);
  }
  documents_ = static_cast<std::int64_t>(header.documents);
  if (static_cast<std::uint64_t>(tokens()) != header.tokens) {
    fail(ErrorKind::kData, "{}: ends at token {}, its header says {}; {}", name,
         tokens(), header.tokens, kAgain);
  }
  check_documents(name);
}

void DatasetIndex::check_documents(const std::string& name) const {
  if (first_token(0) != 0) {
    fail(ErrorKind::kData, "{}: begins at token {}, not 0; {}", name,
         first_token(0), kAgain);
  }
  for (std::int64_t i = 0; i < documents_; ++i) {
    if (first_token(i + 1) < first_token(i)) {
      fail(ErrorKind::kData, "{}: document {} ends before it begins; {}", name,
           i, kAgain);
    }
    if (response_start(i) < 0 || response_start(i) > length(i)) {
      fail(ErrorKind::kData,
           "{}: document {} of {} tokens has its response at {}; {}", name, i,
           length(i), response_start(i), kAgain);
    }
  }
}

std::int64_t DatasetIndex::word(std::size_t index) const {
  std::int64_t value = 0;
  std::memcpy(&value, words_.data() + index * sizeof value, sizeof value);
  return value;
}

bool DatasetIndex::is_boundary(std::int64_t token) const {
  std::int64_t low = 0, high = documents_;
  while (low < high) {
    const std::int64_t middle = low + (high - low) / 2;
    if (first_token(middle) < token) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return first_token(low) == token;
}

ShardHeader parse_shard_header(std::span<const std::byte> bytes,
                               const std::string& name) {
  const auto header = read_header<ShardHeader>(bytes, name);
  if (header.token_bytes != 2 && header.token_bytes != 4) {
    fail(ErrorKind::kData, "{}: {} bytes a token, expected 2 or 4; {}", name,
         header.token_bytes, kAgain);
  }
  const std::uint64_t body = bytes.size() - sizeof header;
  if (body % header.token_bytes != 0 ||
      body / header.token_bytes != header.tokens) {
    fail(ErrorKind::kData, "{}: {} bytes do not hold {} tokens of {} bytes; {}",
         name, bytes.size(), header.tokens, header.token_bytes, kAgain);
  }
  return header;
}

}  // namespace catena::data
