// Any bytes as the manifest or the state of a checkpoint: what it says, or an
// Error. The first byte chooses which.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "runtime/base/error.h"
#include "training/checkpoint/manifest.h"
#include "training/checkpoint/state.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data,
                                      std::size_t size) {
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1,
                              size - 1);
  try {
    if (data[0] == '0') {
      const catena::Manifest manifest = catena::parse_manifest(text, "m");
      // What was accepted is written and read again to the same.
      const std::string again = catena::manifest_text(manifest);
      if (catena::manifest_text(catena::parse_manifest(again, "m")) != again) {
        std::abort();
      }
    } else {
      const catena::TrainingState state = catena::parse_state(text, "s");
      const std::string again = catena::state_text(state);
      if (catena::state_text(catena::parse_state(again, "s")) != again) {
        std::abort();
      }
    }
  } catch (const catena::Error&) {
  }
  return 0;
}
