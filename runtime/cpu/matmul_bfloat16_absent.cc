#include "runtime/base/error.h"
#include "runtime/cpu/matmul.h"

namespace catena::cpu {

bool multiplies_bfloat16() { return false; }

void multiply_bfloat16(const Product&) {
  fail(ErrorKind::kUnsupported,
       "[matmul] no native bfloat16 products in this build");
}

}  // namespace catena::cpu
