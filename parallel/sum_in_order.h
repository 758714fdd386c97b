#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "runtime/dtype.h"

namespace catena {

/// to[i] = sources[0][i] + sources[1][i] + ..., in this order, in the type
/// itself; `to` may be one of the sources. float32, float64 or int64.
/// Throws: InvalidArgument on other types.
void sum_in_order(DType dtype, std::span<const std::byte* const> sources,
                  void* to, std::int64_t count);

}  // namespace catena
