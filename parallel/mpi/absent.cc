#include "parallel/mpi/transport.h"
#include "runtime/base/error.h"

namespace catena::mpi {
namespace {

[[noreturn]] void refuse() {
  fail(ErrorKind::kUnsupported,
       "this program was built without Open MPI: install libopenmpi-dev and "
       "build again, with -DCATENA_MPI=ON to be told what is missing");
}

}  // namespace

bool available() { return false; }
bool launched() { return false; }

Runtime::Runtime() : exceptions_(0) { refuse(); }
Runtime::~Runtime() = default;

std::unique_ptr<Transport> connect(const Options&) { refuse(); }

}  // namespace catena::mpi
