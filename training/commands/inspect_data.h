#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

namespace catena {

struct InspectOptions {
  std::filesystem::path folder;
  std::int64_t rows = 3;  ///< samples
  bool json = false;
};

/// What `catena data inspect` prints: rows, tokens, response tokens, the
/// distribution of lengths, and the first rows decoded.
/// Throws: Error(kData) as data::Dataset.
[[nodiscard]] std::string inspect_data(const InspectOptions& options);

}  // namespace catena
