#include "runtime/cpu/matmul.h"

#include "runtime/cpu/blocked_matmul.h"

namespace catena::cpu {

void multiply(const Product& product) {
  if (product.type == DType::kBFloat16 && multiplies_bfloat16()) {
    return multiply_bfloat16(product);
  }
  multiply_portably(product);
}

void multiply_portably(const Product& product) {
  switch (product.type) {
    case DType::kFloat32:
      return internal::BlockedProduct<float>(product).run();
    case DType::kBFloat16:
      return internal::BlockedProduct<BFloat16>(product).run();
    case DType::kFloat64:
      return internal::BlockedProduct<double>(product).run();
    case DType::kInt32:
    case DType::kInt64:
      break;
  }
  fail(ErrorKind::kInvalidArgument, "[matmul] no product of {}",
       name(product.type));
}

}  // namespace catena::cpu
