// Whatever the bytes are, reading them either succeeds or throws the errors
// that the header promises, and every tensor's data lies inside the bytes. A
// first byte 'H' stands for the length of the JSON that follows, which is hard
// to guess.

#include <cstdlib>
#include <cstring>
#include <string>

#include "runtime/base/error.h"
#include "runtime/safetensors.h"

namespace {

/// The length of the text up to the brace that closes its first one.
std::uint64_t object_length(std::string_view text) {
  int open = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '{') ++open;
    if (text[i] == '}' && --open == 0) return i + 1;
  }
  return text.size();
}

void check(std::span<const std::byte> bytes) {
  using catena::ErrorKind;
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
    if (covered > bytes.size()) std::abort();
  } catch (const catena::Error& error) {
    if (error.kind() != ErrorKind::kData) std::abort();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data,
                                      std::size_t size) {
  std::string bytes(reinterpret_cast<const char*>(data), size);
  if (!bytes.empty() && bytes[0] == 'H') {
    const std::uint64_t length =
        object_length(std::string_view(bytes).substr(1));
    std::string prefix(sizeof length, '\0');
    std::memcpy(prefix.data(), &length, sizeof length);
    bytes.replace(0, 1, prefix);
  }
  check(std::as_bytes(std::span(bytes)));
  return 0;
}
