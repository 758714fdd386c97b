#include "runtime/base/log.h"

#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <mutex>

#include "runtime/base/background_writer.h"
#include "runtime/base/error.h"

namespace catena::log {
namespace {

// The console is written here rather than by a library sink because the
// progress line must be lifted before, and put back after, every log line.
struct State {
  std::mutex mutex;
  std::string prefix;    // guarded by mutex
  std::string progress;  // guarded by mutex; what stands on the terminal
  bool quiet = false;    // guarded by mutex
  std::string color = "auto";
  std::shared_ptr<spdlog::logger> file;
  BackgroundWriter* writer = nullptr;  // guarded by mutex; null: none
};

State& state() {
  static State instance;
  return instance;
}

const char* label(Level level) {
  switch (level) {
    case Level::kInfo:
      return "";
    case Level::kWarning:
      return "warning: ";
    case Level::kError:
      return "error: ";
  }
  return "";
}

const char* color_code(Level level) {
  switch (level) {
    case Level::kInfo:
      return "";
    case Level::kWarning:
      return "\033[33m";
    case Level::kError:
      return "\033[31m";
  }
  return "";
}

spdlog::level::level_enum file_level(Level level) {
  switch (level) {
    case Level::kInfo:
      return spdlog::level::info;
    case Level::kWarning:
      return spdlog::level::warn;
    case Level::kError:
      return spdlog::level::err;
  }
  return spdlog::level::info;
}

/// The mutex is held.
bool put(std::string_view text) {
  if (state().writer != nullptr) return state().writer->write(text);
  std::fwrite(text.data(), 1, text.size(), stderr);
  std::fflush(stderr);
  return true;
}

}  // namespace

bool terminal() {
  static const bool value = ::isatty(STDERR_FILENO) == 1;
  return value;
}

bool colored() {
  const std::string& choice = state().color;
  if (choice != "auto") return choice == "always";
  return terminal() && std::getenv("NO_COLOR") == nullptr;
}

void set_color(std::string_view choice) {
  CATENA_CHECK(choice == "auto" || choice == "always" || choice == "never",
               "[log] color {}", choice);
  state().color = choice;
}

void set_prefix(std::string prefix) {
  const std::lock_guard lock(state().mutex);
  state().prefix = std::move(prefix);
}

void set_quiet(bool quiet) {
  const std::lock_guard lock(state().mutex);
  state().quiet = quiet;
}

void open_file(const std::filesystem::path& path) {
  try {
    auto sink = std::make_shared<spdlog::sinks::basic_file_sink_mt>(
        path.string(), false);
    sink->set_pattern("%Y-%m-%dT%H:%M:%S.%e %l %v");
    const std::lock_guard lock(state().mutex);
    state().file = std::make_shared<spdlog::logger>("catena", sink);
    state().file->flush_on(spdlog::level::info);
  } catch (const spdlog::spdlog_ex& problem) {
    fail(ErrorKind::kIo, "{}: cannot open the log: {}", path.string(),
         problem.what());
  }
}

void write(Level level, std::string_view line) {
  State& s = state();
  const std::lock_guard lock(s.mutex);
  const bool color = colored() && level != Level::kInfo;
  std::string text;
  if (!s.progress.empty()) text += "\r\033[K";
  text += fmt::format("{}{}{}{}{}\n", s.prefix, color ? color_code(level) : "",
                      label(level), line, color ? "\033[0m" : "");
  text += s.progress;
  if (!s.quiet || level != Level::kInfo) put(text);
  if (s.file) s.file->log(file_level(level), "{}{}", s.prefix, line);
}

bool show(std::string_view text) {
  const std::lock_guard lock(state().mutex);
  return put(text);
}

Background::Background()
    : writer_(std::make_unique<BackgroundWriter>(STDERR_FILENO)) {
  const std::lock_guard lock(state().mutex);
  state().writer = writer_.get();
}

Background::~Background() {
  const std::lock_guard lock(state().mutex);
  state().writer = nullptr;
}

void to_file(Level level, std::string_view line) {
  State& s = state();
  const std::lock_guard lock(s.mutex);
  if (s.file) s.file->log(file_level(level), "{}{}", s.prefix, line);
}

void progress(std::string_view line) {
  State& s = state();
  const std::lock_guard lock(s.mutex);
  if (s.file && !line.empty()) s.file->info("{}{}", s.prefix, line);
  if (s.quiet) return;
  if (terminal()) {
    if (s.progress.empty() && line.empty()) return;
    s.progress = line;
    put(fmt::format("\r\033[K{}", line));
  } else if (!line.empty()) {
    put(fmt::format("{}{}\n", s.prefix, line));
  }
}

}  // namespace catena::log
