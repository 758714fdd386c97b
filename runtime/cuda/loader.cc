#include <dlfcn.h>

#include <cstdlib>
#include <filesystem>
#include <string>
#include <string_view>

#include "runtime/cuda/library.h"

namespace catena {
namespace {

namespace fs = std::filesystem;

/// CATENA_CUDA_LIBRARY, or beside the program.
std::string library_path() {
  const char* given = std::getenv("CATENA_CUDA_LIBRARY");
  if (given != nullptr && *given != '\0') return given;
  std::error_code code;
  const fs::path program = fs::read_symlink("/proc/self/exe", code);
  return (program.parent_path() / "libcatena_cuda.so").string();
}

/// Never closed: backends run the library's code until the program ends.
const cuda::Library& load() {
  const std::string path = library_path();
  void* handle = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) {
    fail(ErrorKind::kUnsupported,
         "CUDA backend not loaded: {}; build it, or name it in "
         "CATENA_CUDA_LIBRARY",
         ::dlerror());
  }
  auto* function = reinterpret_cast<cuda::LibraryFunction*>(
      ::dlsym(handle, cuda::kLibraryFunction));
  if (function == nullptr) {
    fail(ErrorKind::kUnsupported, "{}: is not Catena's CUDA backend", path);
  }
  const cuda::Library& library = *function();
  if (std::string_view(library.interface_hash) != CATENA_CUDA_INTERFACE) {
    fail(ErrorKind::kUnsupported,
         "{}: was built from other sources than this program; build both "
         "together",
         path);
  }
  return library;
}

}  // namespace

std::unique_ptr<Backend> make_cuda_backend(int device) {
  return std::unique_ptr<Backend>(load().make_backend(device));
}

}  // namespace catena
