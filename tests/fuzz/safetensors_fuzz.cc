// Whatever the bytes are, reading them either succeeds or throws the errors
// that the header promises, and every tensor's data lies inside the bytes.

#include <cstdlib>

#include "runtime/base/error.h"
#include "runtime/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data,
                                      std::size_t size) {
  using catena::ErrorKind;
  const std::span<const std::byte> bytes = std::as_bytes(std::span(data, size));
  try {
    const auto file = catena::Safetensors::from_bytes(bytes, "fuzz");
    std::size_t covered = 0;
    for (const std::string& name : file.names()) {
      try {
        const auto entry = file.find(name);
        if (entry.data.empty()) continue;
        if (entry.data.data() < bytes.data() + 8 ||
            entry.data.data() + entry.data.size() >
                bytes.data() + bytes.size()) {
          std::abort();
        }
        covered += entry.data.size();
      } catch (const catena::Error& error) {
        if (error.kind() != ErrorKind::kUnsupported) std::abort();
      }
    }
    if (covered > size) std::abort();
  } catch (const catena::Error& error) {
    if (error.kind() != ErrorKind::kData) std::abort();
  }
  return 0;
}
