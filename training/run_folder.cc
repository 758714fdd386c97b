#include "training/run_folder.h"

#include <algorithm>
#include <charconv>

#include "runtime/base/config.h"
#include "runtime/base/error.h"

namespace catena {

namespace fs = std::filesystem;

namespace {

fs::path numbered(const fs::path& wanted, int number) {
  fs::path path = wanted;
  if (number > 1) path += fmt::format("-{}", number);
  return path;
}

[[noreturn]] void fail_to_make(const fs::path& path,
                               const std::error_code& code) {
  fail(ErrorKind::kIo,
       "{}: cannot make the run's folder: {}; choose another "
       "with --set run.folder=...",
       path.string(), code.message());
}

fs::path without_slash(const fs::path& path) {
  return path.has_filename() ? path : path.parent_path();
}

/// N of START-N, as numbered() writes it; 0 of any other name.
int number_of(std::string_view name, std::string_view start) {
  constexpr std::size_t kMostDigits = 9;
  if (!name.starts_with(start)) return 0;
  const std::string_view digits = name.substr(start.size());
  if (digits.empty() || digits.size() > kMostDigits || digits[0] == '0') {
    return 0;
  }
  int number = 0;
  const char* const end = digits.data() + digits.size();
  const auto [stop, error] = std::from_chars(digits.data(), end, number);
  return error == std::errc() && stop == end && number > 1 ? number : 0;
}

/// Whether a run's own configuration says that it is numbered by chance: its
/// run.folder is RUN-64, not RUN.
bool is_of_another(const RunFolder& run, const fs::path& wanted) {
  std::error_code none;
  if (!fs::exists(run.config(), none)) return false;
  std::string folder;
  config::Schema schema;
  schema.add("run.folder", folder, config::Text{});
  try {
    schema.read_file(run.config(), "run");
  } catch (const Error&) {
    return false;
  }
  return !folder.empty() &&
         without_slash(folder).filename() != wanted.filename();
}

/// The highest number that a run of `wanted` has; 0 if there is none.
int highest(const fs::path& wanted) {
  std::error_code code;
  int highest = fs::is_directory(wanted, code) ? 1 : 0;
  const std::string start = wanted.filename().string() + "-";
  const fs::path parent =
      wanted.has_parent_path() ? wanted.parent_path() : fs::path(".");
  fs::directory_iterator at(parent, code);
  for (; !code && at != fs::directory_iterator(); at.increment(code)) {
    const int number = number_of(at->path().filename().string(), start);
    std::error_code none;
    if (number > highest && at->is_directory(none) &&
        !is_of_another({at->path()}, wanted)) {
      highest = number;
    }
  }
  if (code && code != std::errc::no_such_file_or_directory) {
    fail(ErrorKind::kIo, "{}: cannot be listed: {}", parent.string(),
         code.message());
  }
  return highest;
}

}  // namespace

fs::path RunFolder::resolve(const Config& config, const std::string& name) {
  std::string pattern = config.run.folder;
  if (const auto at = pattern.find("{name}"); at != std::string::npos) {
    pattern.replace(at, 6, name);
  }
  return pattern;
}

RunFolder RunFolder::create(const fs::path& wanted) {
  const fs::path first = without_slash(wanted);
  std::error_code code;
  if (first.has_parent_path()) {
    fs::create_directories(first.parent_path(), code);
  }
  if (code) fail_to_make(wanted, code);
  for (int number = highest(first) + 1;; ++number) {
    fs::path path = numbered(first, number);
    // Creation itself decides, so that two runs never share a folder.
    if (fs::create_directory(path, code)) return {path};
    if (code) fail_to_make(wanted, code);
  }
}

RunFolder RunFolder::at(const fs::path& path) {
  std::error_code code;
  fs::create_directories(path, code);
  if (code) fail_to_make(path, code);
  return {path};
}

std::optional<RunFolder> RunFolder::latest(const fs::path& wanted) {
  const fs::path first = without_slash(wanted);
  const int number = highest(first);
  if (number == 0) return std::nullopt;
  return RunFolder{numbered(first, number)};
}

RunFolder RunFolder::open(const fs::path& path) {
  RunFolder run{path};
  for (const fs::path& file : {run.config(), run.tokenizer()}) {
    if (!fs::exists(file)) {
      fail(ErrorKind::kData,
           "{}: is no run: {} is missing; give the folder that "
           "`catena train` printed",
           path.string(), file.filename().string());
    }
  }
  return run;
}

RunFolder RunFolder::of_rank(int rank) const {
  if (rank == 0) return *this;
  const std::filesystem::path folder = path / "ranks" / std::to_string(rank);
  std::error_code code;
  std::filesystem::create_directories(folder, code);
  if (code) {
    fail(ErrorKind::kIo, "{}: cannot create folder: {}", folder.string(),
         code.message());
  }
  return {folder, path};
}

}  // namespace catena
