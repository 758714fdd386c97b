#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "training/data/vocabulary.h"

namespace catena::data {

/// The merges of a byte-level byte-pair encoding.
/// Thread rule: encode() from any number of threads once all merges are added;
/// each thread keeps a small cache of pieces it has seen.
class BytePairEncoder {
 public:
  BytePairEncoder();

  /// Ids of the 256 bytes, -1 where the vocabulary has none.
  void set_bytes(const std::array<std::int32_t, 256>& ids) { bytes_ = ids; }
  /// The pair becomes `merged`; lower ranks first. Later calls win.
  void add_merge(std::int32_t left, std::int32_t right, std::int32_t rank,
                 std::int32_t merged);
  /// A piece that is in the vocabulary is taken whole (ignore_merges).
  void add_whole(std::string bytes, std::int32_t id);

  /// Appends the ids of one piece: its bytes, merged lowest rank first, ties
  /// from the left.
  /// Throws: Error(kData) for a byte without a token.
  void encode(std::string_view piece, std::vector<std::int32_t>& ids) const;

 private:
  struct Merge {
    std::int32_t rank, id;
  };
  struct Slot {
    std::uint64_t pair;
    Merge merge;
  };
  struct Work;

  [[nodiscard]] std::int32_t byte_id(char byte) const;
  [[nodiscard]] const Merge* find(std::int32_t left, std::int32_t right) const;
  void insert(const Slot& slot);
  void merge(std::string_view piece, std::vector<std::int32_t>& ids) const;
  void offer(Work& work, std::int32_t left) const;

  std::uint64_t identity_;  // tells the encoders of a thread's cache apart
  std::array<std::int32_t, 256> bytes_;
  std::vector<Slot> slots_;  // open addressing; a power of two
  std::size_t merges_ = 0;
  std::unordered_map<std::string, std::int32_t> whole_;
};

}  // namespace catena::data
