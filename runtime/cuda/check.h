#pragma once

#include <cuda_runtime_api.h>

#include "runtime/base/error.h"

namespace catena::cuda {

/// Throws: Device, or DoesNotFit where memory ran out.
inline void check(cudaError_t code, const char* call, const char* file,
                  int line) {
  if (code == cudaSuccess) return;
  const ErrorKind kind = code == cudaErrorMemoryAllocation
                             ? ErrorKind::kDoesNotFit
                             : ErrorKind::kDevice;
  fail(kind, "{}:{}: {} gave cudaError {}: {}", file, line, call,
       static_cast<int>(code), cudaGetErrorString(code));
}

}  // namespace catena::cuda

/// CATENA_CUDA(cudaMemsetAsync(...)): throws with the call's text and place.
#define CATENA_CUDA(call) \
  ::catena::cuda::check((call), #call, __FILE__, __LINE__)
