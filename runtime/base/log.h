#pragma once

#include <fmt/format.h>

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

namespace catena {
class BackgroundWriter;
}

namespace catena::log {

enum class Level { kInfo, kWarning, kError };

/// One line to standard error and, once open_file() was called, to the file.
/// Thread rule: any thread; lines are written whole.
void write(Level level, std::string_view line);

/// Text to standard error as it is, after all lines before. Returns false, and
/// shows nothing, where too much waits to be written: see Background.
bool show(std::string_view text);

/// As long as it lives standard error is written by a BackgroundWriter: who
/// logs does not wait for who reads. Lines that too many wait before are left
/// out there, and in the file alone. One at a time.
class Background {
 public:
  Background();
  ~Background();
  Background(const Background&) = delete;
  Background& operator=(const Background&) = delete;

 private:
  std::unique_ptr<BackgroundWriter> writer_;
};

/// Information and progress go to the file alone; warnings and errors are
/// still said.
void set_quiet(bool quiet);

/// One line to the file alone.
void to_file(Level level, std::string_view line);

/// Every line starts with it, such as "rank 3: ". Empty at first.
void set_prefix(std::string prefix);

/// Lines go to this file as well, with a time stamp, appended.
/// Throws: Error(kIo).
void open_file(const std::filesystem::path& path);

/// Standard error is a terminal and colours are wanted: `--color` or, with
/// "auto", no NO_COLOR in the environment.
[[nodiscard]] bool terminal();
[[nodiscard]] bool colored();
/// choice: "auto", "always" or "never".
void set_color(std::string_view choice);

/// The progress line: on a terminal it is redrawn in place below the log,
/// elsewhere it is an ordinary line. Empty text removes it.
void progress(std::string_view line);

template <class... Args>
void info(fmt::format_string<Args...> format, Args&&... args) {
  write(Level::kInfo, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void warning(fmt::format_string<Args...> format, Args&&... args) {
  write(Level::kWarning, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void error(fmt::format_string<Args...> format, Args&&... args) {
  write(Level::kError, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace catena::log
