#include "runtime/base/random.h"

#include <Random123/philox.h>

#include <cmath>
#include <numbers>

#include "runtime/base/error.h"

namespace catena {

std::array<std::uint32_t, 4> Random::words(std::uint64_t index) const {
  const r123::Philox4x32::ctr_type counter{
      {static_cast<std::uint32_t>(index),
       static_cast<std::uint32_t>(index >> 32),
       static_cast<std::uint32_t>(stream_),
       static_cast<std::uint32_t>(stream_ >> 32)}};
  const r123::Philox4x32::key_type key{
      {static_cast<std::uint32_t>(seed_),
       static_cast<std::uint32_t>(seed_ >> 32)}};
  const auto result = r123::Philox4x32()(counter, key);
  return {result[0], result[1], result[2], result[3]};
}

double Random::uniform(std::uint64_t index) const {
  const auto w = words(index);
  const std::uint64_t bits =
      (static_cast<std::uint64_t>(w[0]) << 32 | w[1]) >> 11;
  return static_cast<double>(bits) * 0x1p-53;
}

double Random::normal(std::uint64_t index) const {
  const auto w = words(index);
  const auto unit = [](std::uint32_t high, std::uint32_t low) {
    return static_cast<double>((static_cast<std::uint64_t>(high) << 32 | low) >>
                               11) *
           0x1p-53;
  };
  const double radius = std::sqrt(-2.0 * std::log1p(-unit(w[0], w[1])));
  return radius * std::cos(2.0 * std::numbers::pi * unit(w[2], w[3]));
}

Permutation::Permutation(std::uint64_t size, std::uint64_t seed,
                         std::uint64_t stream)
    : size_(size), half_bits_(1), random_(seed, stream) {
  CATENA_CHECK(size < (std::uint64_t{1} << 62), "[permutation] size {}", size);
  while ((std::uint64_t{1} << (2 * half_bits_)) < size) ++half_bits_;
}

std::uint64_t Permutation::shuffle_once(std::uint64_t value) const {
  const std::uint64_t mask = (std::uint64_t{1} << half_bits_) - 1;
  std::uint64_t left = value >> half_bits_, right = value & mask;
  for (std::uint64_t round = 0; round < 4; ++round) {
    const auto w = random_.words(right << 2 | round);
    const std::uint64_t mixed = static_cast<std::uint64_t>(w[0]) << 32 | w[1];
    const std::uint64_t next = left ^ (mixed & mask);
    left = right;
    right = next;
  }
  return left << half_bits_ | right;
}

std::uint64_t Permutation::at(std::uint64_t index) const {
  CATENA_CHECK(index < size_, "[permutation] index {} of {}", index, size_);
  do {
    index = shuffle_once(index);
  } while (index >= size_);
  return index;
}

}  // namespace catena
