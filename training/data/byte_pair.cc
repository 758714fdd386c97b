#include "training/data/byte_pair.h"

#include <algorithm>
#include <atomic>
#include <cstring>

#include "runtime/base/error.h"
#include "runtime/base/hash.h"

namespace catena::data {
namespace {

constexpr std::uint64_t kNoPair = ~std::uint64_t{0};

std::uint64_t pair_key(std::int32_t left, std::int32_t right) {
  return std::uint64_t{static_cast<std::uint32_t>(left)} << 32 |
         static_cast<std::uint32_t>(right);
}

std::size_t scatter(std::uint64_t key) {
  key *= 0x9E3779B97F4A7C15u;
  return static_cast<std::size_t>(key ^ key >> 32);
}

// The pieces a thread has met last, one in each slot. Words repeat, so this
// answers nearly all of them.
class PieceCache {
 public:
  struct Entry {
    std::uint8_t bytes = 0, ids = 0;
    char text[30];
    std::int32_t id[8];
  };

  Entry* slot(std::uint64_t owner, std::string_view piece) {
    if (piece.size() > sizeof Entry::text) return nullptr;
    if (owner != owner_) {
      entries_.assign(kSlots, Entry{});
      owner_ = owner;
    }
    return &entries_[hash64(piece) % kSlots];
  }

  static bool holds(const Entry& entry, std::string_view piece) {
    return entry.bytes == piece.size() &&
           std::memcmp(entry.text, piece.data(), piece.size()) == 0;
  }

  static void fill(Entry& entry, std::string_view piece, const int32_t* ids,
                   std::size_t count) {
    if (count > std::size(entry.id)) return;
    entry.bytes = static_cast<std::uint8_t>(piece.size());
    entry.ids = static_cast<std::uint8_t>(count);
    std::memcpy(entry.text, piece.data(), piece.size());
    std::copy_n(ids, count, entry.id);
  }

 private:
  static constexpr std::size_t kSlots = std::size_t{1} << 14;
  std::uint64_t owner_ = 0;
  std::vector<Entry> entries_;
};

std::uint64_t next_identity() {
  static std::atomic<std::uint64_t> counter{0};
  return ++counter;
}

struct Symbol {
  std::int32_t id;  // -1: merged into the one on its left
  std::int32_t previous, next;
};

struct Candidate {
  std::int32_t rank, position;
  std::int32_t left, right, merged;

  // std::push_heap keeps the largest on top: the lowest rank, then leftmost.
  bool operator<(const Candidate& other) const {
    return rank != other.rank ? rank > other.rank : position > other.position;
  }
};

}  // namespace

struct BytePairEncoder::Work {
  std::vector<Symbol> symbols;
  std::vector<Candidate> heap;
};

BytePairEncoder::BytePairEncoder()
    : identity_(next_identity()), slots_(1024, Slot{kNoPair, {}}) {
  bytes_.fill(-1);
}

void BytePairEncoder::add_merge(std::int32_t left, std::int32_t right,
                                std::int32_t rank, std::int32_t merged) {
  if (2 * (merges_ + 1) > slots_.size()) {
    std::vector<Slot> old(2 * slots_.size(), Slot{kNoPair, {}});
    old.swap(slots_);
    for (const Slot& slot : old) {
      if (slot.pair != kNoPair) insert(slot);
    }
  }
  if (find(left, right) == nullptr) ++merges_;
  insert({pair_key(left, right), {rank, merged}});
}

void BytePairEncoder::insert(const Slot& slot) {
  std::size_t i = scatter(slot.pair) & (slots_.size() - 1);
  while (slots_[i].pair != kNoPair && slots_[i].pair != slot.pair)
    i = (i + 1) & (slots_.size() - 1);
  slots_[i] = slot;
}

const BytePairEncoder::Merge* BytePairEncoder::find(std::int32_t left,
                                                    std::int32_t right) const {
  const std::uint64_t key = pair_key(left, right);
  std::size_t i = scatter(key) & (slots_.size() - 1);
  while (slots_[i].pair != key) {
    if (slots_[i].pair == kNoPair) return nullptr;
    i = (i + 1) & (slots_.size() - 1);
  }
  return &slots_[i].merge;
}

void BytePairEncoder::add_whole(std::string bytes, std::int32_t id) {
  whole_.emplace(std::move(bytes), id);
}

std::int32_t BytePairEncoder::byte_id(char byte) const {
  const auto index = static_cast<unsigned char>(byte);
  if (bytes_[index] < 0) {
    fail(ErrorKind::kData,
         "the tokenizer has no token for byte 0x{:02X}; its vocabulary is "
         "incomplete",
         index);
  }
  return bytes_[index];
}

void BytePairEncoder::encode(std::string_view piece,
                             std::vector<std::int32_t>& ids) const {
  if (piece.size() == 1 && whole_.empty()) {
    ids.push_back(byte_id(piece[0]));
    return;
  }
  thread_local PieceCache cache;
  PieceCache::Entry* entry = cache.slot(identity_, piece);
  if (entry != nullptr && PieceCache::holds(*entry, piece)) {
    ids.insert(ids.end(), entry->id, entry->id + entry->ids);
    return;
  }
  const std::size_t before = ids.size();
  const auto whole =
      whole_.empty() ? whole_.end() : whole_.find(std::string(piece));
  if (whole != whole_.end()) {
    ids.push_back(whole->second);
  } else {
    merge(piece, ids);
  }
  if (entry != nullptr) {
    PieceCache::fill(*entry, piece, ids.data() + before, ids.size() - before);
  }
}

void BytePairEncoder::offer(Work& work, std::int32_t left) const {
  if (left < 0) return;
  const Symbol& a = work.symbols[static_cast<std::size_t>(left)];
  if (a.next < 0) return;
  const Symbol& b = work.symbols[static_cast<std::size_t>(a.next)];
  const Merge* found = find(a.id, b.id);
  if (found == nullptr) return;
  work.heap.push_back({found->rank, left, a.id, b.id, found->id});
  std::push_heap(work.heap.begin(), work.heap.end());
}

void BytePairEncoder::merge(std::string_view piece,
                            std::vector<std::int32_t>& ids) const {
  thread_local Work work;
  work.symbols.clear();
  work.heap.clear();
  const auto count = static_cast<std::int32_t>(piece.size());
  for (std::int32_t i = 0; i < count; ++i) {
    work.symbols.push_back({byte_id(piece[static_cast<std::size_t>(i)]), i - 1,
                            i + 1 < count ? i + 1 : -1});
  }
  for (std::int32_t i = 0; i < count; ++i) offer(work, i);
  while (!work.heap.empty()) {
    const Candidate best = work.heap.front();
    std::pop_heap(work.heap.begin(), work.heap.end());
    work.heap.pop_back();
    Symbol& left = work.symbols[static_cast<std::size_t>(best.position)];
    if (left.id != best.left || left.next < 0) continue;
    Symbol& right = work.symbols[static_cast<std::size_t>(left.next)];
    if (right.id != best.right) continue;
    left.id = best.merged;
    left.next = right.next;
    right.id = -1;
    if (left.next >= 0) {
      work.symbols[static_cast<std::size_t>(left.next)].previous =
          best.position;
    }
    offer(work, left.previous);
    offer(work, best.position);
  }
  for (const Symbol& symbol : work.symbols) {
    if (symbol.id >= 0) ids.push_back(symbol.id);
  }
}

}  // namespace catena::data
