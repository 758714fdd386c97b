#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <sstream>
#include <vector>

#include "runtime/base/error.h"
#include "tests/support/json.h"

namespace catena {

/// What a command prints; a failure of the test where it ends with another
/// code than 0.
inline std::string output_of(const std::string& command) {
  std::FILE* pipe = ::popen(command.c_str(), "r");
  std::string text;
  for (int c; pipe != nullptr && (c = std::fgetc(pipe)) != EOF;) {
    text += static_cast<char>(c);
  }
  EXPECT_TRUE(pipe != nullptr && ::pclose(pipe) == 0) << command;
  return text;
}

/// The records of an event file, as tests/training/read_events reads them,
/// which shares no code with the writer.
inline std::vector<nlohmann::json> events_in(
    const std::filesystem::path& file) {
  std::vector<nlohmann::json> lines;
  std::istringstream text(
      output_of(fmt::format("python3 '{}/tests/training/read_events' '{}'",
                            CATENA_SOURCE_DIR, file.string())));
  for (std::string line; std::getline(text, line);) {
    lines.push_back(json_of(line));
  }
  return lines;
}

/// The event files of a folder, in the order in which they are read.
inline std::vector<std::filesystem::path> event_files(
    const std::filesystem::path& folder) {
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  return files;
}

}  // namespace catena
