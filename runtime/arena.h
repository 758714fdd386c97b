#pragma once

#include <cstddef>
#include <vector>

#include "runtime/memory_source.h"
#include "runtime/tensor.h"

namespace catena {

/// Stack of memory for values that die in the reverse order of their
/// birth. Grows in blocks as long as sizes are unknown; after reserve() nothing
/// is allocated unless more is asked for. Memory is not cleared.
/// Thread rule: one thread at a time.
class Arena {
 public:
  /// `source` is borrowed.
  explicit Arena(MemorySource& source) : source_(&source) {}
  ~Arena();
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  /// Contiguous, 64-byte aligned; valid until a rewind() past it.
  [[nodiscard]] TensorView allocate(DType dtype, const Shape& shape);
  [[nodiscard]] void* allocate_bytes(std::size_t bytes);

  struct Mark {
    std::size_t block = 0, used = 0, total = 0;
  };
  [[nodiscard]] Mark mark() const { return top_; }
  /// Everything allocated since `mark` is dead.
  void rewind(const Mark& mark);
  /// Most bytes ever alive at once.
  [[nodiscard]] std::size_t peak_bytes() const { return peak_; }
  /// Bytes alive now.
  [[nodiscard]] std::size_t used_bytes() const { return top_.total; }
  /// Bytes held from the source.
  [[nodiscard]] std::size_t held_bytes() const;
  /// Holds one block of at least `bytes` and peak_bytes(). Requires an empty
  /// arena.
  void reserve(std::size_t bytes);

 private:
  struct Block {
    void* data;
    std::size_t bytes;
  };
  MemorySource* source_;
  std::vector<Block> blocks_;
  Mark top_;
  std::size_t peak_ = 0;
};

/// Rewinds an arena at the end of a scope.
class ArenaScope {
 public:
  explicit ArenaScope(Arena& arena) : arena_(arena), mark_(arena.mark()) {}
  ~ArenaScope() { arena_.rewind(mark_); }
  ArenaScope(const ArenaScope&) = delete;
  ArenaScope& operator=(const ArenaScope&) = delete;

 private:
  Arena& arena_;
  Arena::Mark mark_;
};

}  // namespace catena
