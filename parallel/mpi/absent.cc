#include "parallel/mpi/transport.h"
#include "runtime/base/error.h"

namespace catena::mpi {

bool available() { return false; }

void require() {
  fail(ErrorKind::kUnsupported,
       "this program was built without Open MPI: install libopenmpi-dev and "
       "build again, with -DCATENA_MPI=ON to be told what is missing");
}

Runtime::Runtime() : exceptions_(0) { require(); }
Runtime::~Runtime() = default;

std::unique_ptr<Transport> connect(const Options&) {
  require();
  return nullptr;
}

}  // namespace catena::mpi
