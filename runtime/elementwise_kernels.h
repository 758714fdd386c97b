#pragma once

#include "runtime/kernel.h"
#include "runtime/tensor.h"

namespace catena {

// The kernels that take elements one by one, whatever they are part of, and
// their sums; CPU: reduce.cc. What holds for every kernel: kernel.h.

/// out[0] = sum of x^2, formed in float64 in an order fixed by the length and
/// the width of registers.
///   x: any shape, contiguous, floating;  out [1] float64
struct SumSquares {
  TensorView x, out;
  CATENA_KERNEL("sum_squares");
};

/// out[0] = sum of x, in float64, as SumSquares.
struct Sum {
  TensorView x, out;
  CATENA_KERNEL("sum");
};

/// out[0] = number of elements that are NaN or infinite.
///   x: rows may be strided, floating, 1 to 3 dimensions;  out [1] int64
struct CountNonFinite {
  TensorView x, out;
  CATENA_KERNEL("count_non_finite");
};

/// out = a + b. 1 or 2 dimensions, one T; out may be a or b.
struct Add {
  TensorView a, b, out;
  CATENA_KERNEL("add");
};

/// to = from, converted; 1 to 3 dimensions, any strides (0 repeats `from`).
/// Floating types to floating types, or equal types.
struct Copy {
  TensorView from, to;
  CATENA_KERNEL("copy");
};

/// x = value. 1 to 3 dimensions, any strides, any type.
struct Fill {
  TensorView x;
  double value = 0;
  CATENA_KERNEL("fill");
};

/// out[i, c] = sum over m of x[i, m, c].
///   x [rows, middle, columns] T, strided;  out [rows, columns] T, strided
struct SumMiddle {
  TensorView x, out;
  CATENA_KERNEL("sum_middle");
};

}  // namespace catena
