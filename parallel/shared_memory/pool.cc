#include "parallel/shared_memory/pool.h"

#include <algorithm>
#include <iterator>

namespace catena::shared_memory {
namespace {

std::size_t rounded(std::size_t bytes) {
  constexpr std::size_t kStep = Pool::kAlignment;
  return std::max(kStep, (bytes + kStep - 1) / kStep * kStep);
}

}  // namespace

std::optional<std::size_t> Pool::take(std::size_t bytes) {
  if (bytes > capacity_) return {};
  bytes = rounded(bytes);
  const auto at =
      std::find_if(free_.begin(), free_.end(),
                   [&](const auto& range) { return range.second >= bytes; });
  std::size_t begin = end_;
  if (at != free_.end()) {
    begin = at->first;
    if (at->second > bytes) {
      free_.emplace(begin + bytes, at->second - bytes);
    }
    free_.erase(at);
  } else {
    if (bytes > capacity_ - end_) return {};
    end_ += bytes;
  }
  taken_ += bytes;
  return begin;
}

void Pool::give_back(std::size_t begin, std::size_t bytes) {
  bytes = rounded(bytes);
  taken_ -= bytes;
  auto next = free_.lower_bound(begin);
  if (next != free_.end() && begin + bytes == next->first) {
    bytes += next->second;
    next = free_.erase(next);
  }
  if (next != free_.begin()) {
    const auto before = std::prev(next);
    if (before->first + before->second == begin) {
      begin = before->first;
      bytes += before->second;
      free_.erase(before);
    }
  }
  if (begin + bytes == end_) {
    end_ = begin;
  } else {
    free_.emplace(begin, bytes);
  }
}

}  // namespace catena::shared_memory
