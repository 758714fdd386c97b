// Any bytes as the manifest or the state of a checkpoint: what it says, or an
// Error. The first byte chooses which; '2' makes a manifest of the rest, whose
// hash fits, and puts one byte of it wrong.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "runtime/base/error.h"
#include "training/checkpoint/manifest.h"
#include "training/checkpoint/state.h"

namespace {

// Hundreds would take milliseconds an input and say nothing more.
constexpr std::size_t kMostFiles = 4;

/// Files of manifest "2": names of a letter and a number, sizes and hashes.
void check_made(std::string_view bytes) {
  catena::Manifest manifest;
  manifest.step = static_cast<std::int64_t>(bytes.size());
  const std::size_t end = std::min(bytes.size(), 2 + 2 * kMostFiles);
  for (std::size_t i = 2; i + 1 < end; i += 2) {
    const auto first = static_cast<unsigned char>(bytes[i]);
    const auto second = static_cast<unsigned char>(bytes[i + 1]);
    manifest.files.push_back(
        {std::string(1, static_cast<char>('a' + first % 26)) +
             std::to_string(i),
         {first * 1000003, second * 0x9e3779b97f4a7c15ULL}});
  }
  std::string text = catena::manifest_text(manifest);
  if (catena::manifest_text(catena::parse_manifest(text, "m")) != text) {
    std::abort();
  }
  if (bytes.size() < 2 || bytes[1] == 0) return;
  // Anywhere from its beginning to the hash at its end.
  const std::size_t place =
      static_cast<unsigned char>(bytes[0]) * text.size() / 256;
  text[place] = static_cast<char>(text[place] ^ bytes[1]);
  // What a wrong byte leaves readable is the same manifest: white space.
  const catena::Manifest read = catena::parse_manifest(text, "m");
  if (catena::manifest_text(read) != catena::manifest_text(manifest)) {
    std::abort();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data,
                                      std::size_t size) {
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1,
                              size - 1);
  try {
    if (data[0] == '2') {
      check_made(text);
    } else if (data[0] == '0') {
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
