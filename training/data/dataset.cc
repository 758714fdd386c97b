#include "training/data/dataset.h"

#include <algorithm>
#include <cstring>

#include "runtime/base/error.h"
#include "runtime/base/hash.h"

namespace catena::data {
namespace fs = std::filesystem;
namespace {

constexpr const char* kAgain =
    "the data set is damaged, prepare it again (catena data prepare)";

DatasetManifest read_manifest(const fs::path& folder) {
  const fs::path path = folder / kDatasetFile;
  if (!fs::exists(path)) {
    fail(ErrorKind::kData,
         "{}: no {} there, so it is not a finished data set; make one with "
         "catena data prepare",
         folder.string(), kDatasetFile);
  }
  return parse_manifest(catena::read_file(path), path.string());
}

template <class Word>
void widen(const std::byte* source, std::size_t count, std::int32_t* out) {
  for (std::size_t i = 0; i < count; ++i) {
    Word word;
    std::memcpy(&word, source + i * sizeof word, sizeof word);
    out[i] = static_cast<std::int32_t>(word);
  }
}

}  // namespace

Dataset::Dataset(const fs::path& folder, Verify verify)
    : folder_(folder), manifest_(read_manifest(folder)) {
  index_file_ = open_file(manifest_.index, verify);
  const std::string name = (folder_ / manifest_.index.name).string();
  index_ = DatasetIndex(index_file_.bytes(), name);
  if (index_.documents() != manifest_.documents ||
      index_.tokens() != manifest_.tokens) {
    fail(ErrorKind::kData,
         "{}: {} documents of {} tokens, {} says {} of {}; {}", name,
         index_.documents(), index_.tokens(), kDatasetFile, manifest_.documents,
         manifest_.tokens, kAgain);
  }
  static_cast<void>(open_file(manifest_.tokenizer, verify));
  open_shards(verify);
}

MappedFile Dataset::open_file(const DatasetFileInfo& info,
                              Verify verify) const {
  const fs::path path = folder_ / info.name;
  MappedFile file(path);
  const auto size = static_cast<std::int64_t>(file.bytes().size());
  if (size != info.bytes) {
    fail(ErrorKind::kData, "{}: {} bytes, {} says {}; {}", path.string(), size,
         kDatasetFile, info.bytes, kAgain);
  }
  if (verify == Verify::kContent &&
      hexadecimal(hash64(file.bytes())) != info.hash) {
    fail(ErrorKind::kData,
         "{}: altered since it was written (hash differs); {}", path.string(),
         kAgain);
  }
  return file;
}

void Dataset::open_shards(Verify verify) {
  std::uint64_t next = 0;
  for (const DatasetFileInfo& info : manifest_.shards) {
    const std::string name = (folder_ / info.name).string();
    Shard shard{open_file(info, verify), {}};
    shard.header = parse_shard_header(shard.file.bytes(), name);
    if (shard.header.first_token != next ||
        !index_.is_boundary(static_cast<std::int64_t>(next))) {
      fail(ErrorKind::kData, "{}: begins at token {}, expected {}; {}", name,
           shard.header.first_token, next, kAgain);
    }
    next += shard.header.tokens;
    shards_.push_back(std::move(shard));
  }
  if (next != static_cast<std::uint64_t>(index_.tokens())) {
    fail(ErrorKind::kData, "{}: its shards hold {} tokens, expected {}; {}",
         folder_.string(), next, index_.tokens(), kAgain);
  }
}

const Dataset::Shard& Dataset::shard_of(std::int64_t token) const {
  const auto after = std::upper_bound(
      shards_.begin(), shards_.end(), token,
      [](std::int64_t t, const Shard& s) {
        return t < static_cast<std::int64_t>(s.header.first_token);
      });
  return *std::prev(after);
}

void Dataset::read(std::int64_t document, std::int64_t begin,
                   std::int64_t count, std::vector<std::int32_t>& out) const {
  CATENA_CHECK(document >= 0 && document < documents() && begin >= 0 &&
                   count >= 0 && begin + count <= length(document),
               "[data set] tokens {} + {} of document {}", begin, count,
               document);
  out.resize(static_cast<std::size_t>(count));
  if (count == 0) return;
  const std::int64_t first = index_.first_token(document) + begin;
  const Shard& shard = shard_of(first);
  const std::size_t offset =
      sizeof(ShardHeader) +
      static_cast<std::size_t>(first) * shard.header.token_bytes -
      static_cast<std::size_t>(shard.header.first_token) *
          shard.header.token_bytes;
  const std::byte* source = shard.file.bytes().data() + offset;
  if (shard.header.token_bytes == 2) {
    widen<std::uint16_t>(source, out.size(), out.data());
  } else {
    widen<std::uint32_t>(source, out.size(), out.data());
  }
  for (const std::int32_t id : out) {
    if (id < 0 || id >= manifest_.vocabulary) {
      fail(ErrorKind::kData,
           "{}: document {} holds token id {}, outside the vocabulary of {}; "
           "{}",
           folder_.string(), document, id, manifest_.vocabulary, kAgain);
    }
  }
}

std::vector<std::int32_t> Dataset::tokens(std::int64_t document) const {
  std::vector<std::int32_t> out;
  read(document, 0, length(document), out);
  return out;
}

fs::path Dataset::tokenizer_path() const {
  return folder_ / manifest_.tokenizer.name;
}

std::uint64_t Dataset::hash() const {
  std::string all = manifest_.index.hash;
  for (const DatasetFileInfo& shard : manifest_.shards) all += shard.hash;
  return hash64(all);
}

}  // namespace catena::data
