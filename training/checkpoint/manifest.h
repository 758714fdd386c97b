#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/base/files.h"

namespace catena {

/// What a checkpoint consists of. A folder is a checkpoint if, and only if,
/// its MANIFEST.json says so: it is written last, and holds the size and hash
/// of every other file and a hash of itself.
struct Manifest {
  struct File {
    std::string name;  ///< within the folder, without slashes
    WrittenFile content;
  };
  std::int64_t step = 0;
  std::vector<File> files;
};

inline constexpr const char* kManifestFile = "MANIFEST.json";

[[nodiscard]] std::string manifest_text(const Manifest& manifest);

/// Throws: Error(kData), naming `name` and the key: malformed JSON, another
/// format or version, names that leave the folder, a hash of its own that does
/// not fit.
[[nodiscard]] Manifest parse_manifest(std::string_view text,
                                      const std::string& name);

/// Reads the manifest of a checkpoint and every file it names.
/// Throws: Error(kData) naming the file that is missing, of another length, or
/// altered.
[[nodiscard]] Manifest verify_checkpoint(const std::filesystem::path& folder);

}  // namespace catena
