#include "training/data/vocabulary.h"

#include "runtime/base/error.h"
#include "training/data/byte_alphabet.h"

namespace catena::data {

void Vocabulary::add(std::string_view spelling, std::int64_t id) {
  put(spelling, unspelled(spelling).value_or(std::string(spelling)), id);
}

void Vocabulary::add_literal(std::string_view content, std::int64_t id) {
  put(content, std::string(content), id);
}

void Vocabulary::put(std::string_view name, std::string bytes,
                     std::int64_t id) {
  if (id < 0 || id >= kLimit) {
    fail(ErrorKind::kData, "token {:?} has id {}, which is not in [0, {})",
         name, id, kLimit);
  }
  const auto index = static_cast<std::size_t>(id);
  const auto known = ids_.find(name);
  if (known != ids_.end() && known->second != id) {
    fail(ErrorKind::kData, "token {:?} has two ids, {} and {}", name,
         known->second, id);
  }
  if (index >= bytes_.size()) {
    bytes_.resize(index + 1);
    taken_.resize(index + 1, false);
  }
  if (taken_[index] && known == ids_.end()) {
    fail(ErrorKind::kData, "token {:?} has id {}, which another token has too",
         name, id);
  }
  taken_[index] = true;
  bytes_[index] = std::move(bytes);
  ids_.emplace(name, static_cast<std::int32_t>(id));
}

std::optional<std::int32_t> Vocabulary::find(std::string_view spelling) const {
  const auto found = ids_.find(spelling);
  if (found == ids_.end()) return std::nullopt;
  return found->second;
}

}  // namespace catena::data
