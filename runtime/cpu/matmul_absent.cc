#include "runtime/cpu/backend.h"
#include "runtime/cpu/blocked_matmul.h"

namespace catena::cpu {

void multiply(const Product& product) { blocked_multiply(product); }

void multiply_by_library(const Product& product) { blocked_multiply(product); }

std::string matmul_description() { return "portable loops"; }

}  // namespace catena::cpu
