#include "runtime/cpu/bfloat16_pairs.h"

namespace catena::cpu {

bool multiplies_bfloat16() {
  static const bool native = __builtin_cpu_supports("avx512bf16") != 0;
  return native;
}

void multiply_bfloat16(const Product& product) {
  internal::BlockedProduct<BFloat16, BFloat16>(product).run();
}

}  // namespace catena::cpu
