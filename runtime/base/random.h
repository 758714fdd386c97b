#pragma once

#include <array>
#include <cstdint>

namespace catena {

/// Counter-based random numbers: Philox4x32-10 (Salmon et al., "Parallel
/// random numbers: as easy as 1, 2, 3", SC 2011). A number depends on (seed,
/// stream, index) alone, never on the order in which numbers are drawn, so
/// any layout of ranks draws the same ones.
/// Thread rule: const after construction, any number of readers.
class Random {
 public:
  Random(std::uint64_t seed, std::uint64_t stream)
      : seed_(seed), stream_(stream) {}

  /// Four independent 32-bit words for `index`.
  [[nodiscard]] std::array<std::uint32_t, 4> words(std::uint64_t index) const;

  /// Uniform in [0, 1), 53 bits.
  [[nodiscard]] double uniform(std::uint64_t index) const;

  /// Standard normal (Box-Muller on the words of `index`).
  [[nodiscard]] double normal(std::uint64_t index) const;

 private:
  std::uint64_t seed_, stream_;
};

/// A pseudo-random permutation of [0, size): at(i) needs no memory and no
/// other element. Four Feistel rounds over the next power of four, walking
/// until the value falls into range.
class Permutation {
 public:
  Permutation(std::uint64_t size, std::uint64_t seed, std::uint64_t stream);
  [[nodiscard]] std::uint64_t at(std::uint64_t index) const;
  [[nodiscard]] std::uint64_t size() const { return size_; }

 private:
  [[nodiscard]] std::uint64_t shuffle_once(std::uint64_t value) const;

  std::uint64_t size_;
  unsigned half_bits_;
  Random random_;
};

}  // namespace catena
