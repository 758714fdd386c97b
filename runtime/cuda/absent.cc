#include "runtime/backend.h"

namespace catena {

std::unique_ptr<Backend> make_cuda_backend(int) {
  fail(ErrorKind::kUnsupported,
       "this build has no CUDA backend; build where nvcc is installed, with "
       "-DCATENA_CUDA=ON");
}

}  // namespace catena
