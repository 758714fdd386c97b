#include <immintrin.h>

#include <bit>

#include "bench/peak.h"

namespace catena::bench::internal {

double repeat_bfloat16(int blocks) {
  if (__builtin_cpu_supports("avx512bf16") == 0) return 0;
  constexpr int kSums = 16, kTerms = 32;
  __m512 sums[kSums] = {};
  const auto factor = std::bit_cast<__m512bh>(_mm512_set1_epi32(0x3f003f00));
  for (int block = 0; block < blocks; ++block) {
#pragma GCC unroll 16
    for (__m512& sum : sums) {
      sum = _mm512_dpbf16_ps(sum, factor, factor);
      // Sums that the compiler cannot know to be equal.
      asm volatile("" : "+v"(sum));
    }
  }
  return 2.0 * kTerms * kSums * blocks;
}

}  // namespace catena::bench::internal
