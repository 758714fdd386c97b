// Any bytes as a file of placements: every expert is held, or an Error.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "runtime/base/error.h"
#include "training/placement_file.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data,
                                      std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    const catena::Placements placements =
        catena::parse_placements(text, "p", {3, 2, 2});
    for (std::int64_t layer = 0; layer < 2; ++layer) {
      for (std::int64_t expert = 0; expert < 3; ++expert) {
        if (placements[layer].holders(expert).empty()) std::abort();
      }
    }
  } catch (const catena::Error&) {
  }
  return 0;
}
