#include "parallel/gloo/transport.h"
#include "runtime/base/error.h"

namespace catena::gloo {

bool available() { return false; }

void require() {
  fail(ErrorKind::kUnsupported,
       "this program was built without Gloo: install libgloo-dev and build "
       "again, with -DCATENA_GLOO=ON to be told what is missing");
}

std::unique_ptr<Transport> connect(int, int, Store&, const Options&) {
  require();
  return nullptr;
}

}  // namespace catena::gloo
