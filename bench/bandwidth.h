#pragma once

#include "bench/peak.h"

namespace catena::bench {

/// Bytes a second in order through memory, all threads, each its own part:
/// arrays far larger than the caches, ordinary loads and stores.
struct Bandwidth {
  Rate triad;  ///< a = b + s c: two arrays read, one written
  /// Four float32 arrays read and written back in place, as AdamW in float32
  /// reads and writes parameter, gradient and two moments: 32 bytes a number.
  Rate in_place;
  /// The same and one bfloat16 array written, AdamW's rounded copy: 34.
  Rate in_place_and_copy;
  /// AdamW itself on the same arrays, the same bytes counted.
  Rate adamw, adamw_and_copy;
};

/// All of them in turn, round after round, on `count` numbers an array.
[[nodiscard]] Bandwidth measure_bandwidth(Backend& backend,
                                          cpu::ThreadPool& pool,
                                          std::int64_t count);

}  // namespace catena::bench
