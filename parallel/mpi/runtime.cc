#include <exception>

#include "parallel/mpi/check.h"
#include "parallel/mpi/transport.h"
#include "runtime/base/log.h"

namespace catena::mpi {

std::string text_of_error(int code) {
  std::string text(MPI_MAX_ERROR_STRING, '\0');
  int length = 0;
  if (MPI_Error_string(code, text.data(), &length) != MPI_SUCCESS) {
    return fmt::format("error {}", code);
  }
  text.resize(static_cast<std::size_t>(length));
  return text;
}

bool available() { return true; }

void require() {}

Runtime::Runtime() : exceptions_(std::uncaught_exceptions()) {
  int provided = 0;
  CATENA_MPI(
      MPI_Init_thread(nullptr, nullptr, MPI_THREAD_SERIALIZED, &provided));
  CATENA_MPI(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN));
  if (provided < MPI_THREAD_SERIALIZED) {
    MPI_Finalize();
    fail(ErrorKind::kUnsupported,
         "this MPI lets one thread of a process call it, and Catena has two");
  }
}

Runtime::~Runtime() {
  if (std::uncaught_exceptions() > exceptions_) return;
  if (const int code = MPI_Finalize(); code != MPI_SUCCESS) {
    log::warning("[mpi] MPI_Finalize: {}", text_of_error(code));
  }
}

}  // namespace catena::mpi
