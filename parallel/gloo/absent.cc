#include "parallel/gloo/transport.h"
#include "runtime/base/error.h"

namespace catena::gloo {

bool available() { return false; }

std::unique_ptr<Transport> connect(int, int, Store&, const Options&) {
  fail(ErrorKind::kUnsupported,
       "this program was built without Gloo: install libgloo-dev and build "
       "again, with -DCATENA_GLOO=ON to be told what is missing");
}

}  // namespace catena::gloo
