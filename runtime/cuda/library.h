#pragma once

#include "runtime/backend.h"

namespace catena::cuda {

/// What libcatena_cuda.so offers to the program that loads it. The program
/// links no CUDA library, and so starts on machines without one.
struct Library {
  /// Hash of the headers both sides were compiled from; the program refuses a
  /// library whose hash differs from its own.
  const char* interface_hash;
  /// The caller owns the result. Throws: Device, Unsupported.
  Backend* (*make_backend)(int device);
};

/// Name and type of the one exported function.
inline constexpr const char* kLibraryFunction = "catena_cuda_library";
using LibraryFunction = const Library*();

}  // namespace catena::cuda
