#pragma once

#include "runtime/backend.h"
#include "runtime/cpu/thread_pool.h"

/// What the machine itself gives, without any code of the project's own in
/// between: instructions on registers, and memory read and written in order.
namespace catena::bench {

/// Of several short measurements on all threads at once.
struct Rate {
  double median = 0, best = 0;  ///< a second
};

/// FLOPs a second of multiply-and-add instructions on registers: float32, or
/// the bfloat16 instruction where the processor has one (0 where not).
[[nodiscard]] Rate peak_flops(cpu::ThreadPool& pool, DType dtype);

namespace internal {
/// Repeats a block of independent bfloat16 instructions; FLOPs done. Nothing
/// is done where the processor or the compiler lacks them.
double repeat_bfloat16(int blocks);
}  // namespace internal

}  // namespace catena::bench
