#pragma once

#include <mpi.h>

#include <string>

#include "runtime/base/error.h"

namespace catena::mpi {

/// MPI's words for an error.
[[nodiscard]] std::string text_of_error(int code);

}  // namespace catena::mpi

/// Throws Error(kCommunication) with the call, the place and MPI's words.
#define CATENA_MPI(call)                                                      \
  do {                                                                        \
    if (const int catena_code = (call); catena_code != MPI_SUCCESS)           \
        [[unlikely]] {                                                        \
      ::catena::fail(                                                         \
          ::catena::ErrorKind::kCommunication, "[mpi] {}: {} ({}:{})", #call, \
          ::catena::mpi::text_of_error(catena_code), __FILE__, __LINE__);     \
    }                                                                         \
  } while (false)
