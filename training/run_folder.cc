#include "training/run_folder.h"

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

}  // namespace

fs::path RunFolder::resolve(const Config& config, const std::string& name) {
  std::string pattern = config.run.folder;
  if (const auto at = pattern.find("{name}"); at != std::string::npos) {
    pattern.replace(at, 6, name);
  }
  return pattern;
}

RunFolder RunFolder::create(const fs::path& wanted) {
  std::error_code code;
  if (wanted.has_parent_path()) {
    fs::create_directories(wanted.parent_path(), code);
  }
  for (int number = 1; !code; ++number) {
    fs::path path = numbered(wanted, number);
    // Creation itself decides, so that two runs never share a folder.
    if (fs::create_directory(path, code)) return {path};
  }
  fail_to_make(wanted, code);
}

RunFolder RunFolder::at(const fs::path& path) {
  std::error_code code;
  fs::create_directories(path, code);
  if (code) fail_to_make(path, code);
  return {path};
}

std::optional<RunFolder> RunFolder::latest(const fs::path& wanted) {
  int number = 0;
  while (fs::exists(numbered(wanted, number + 1))) ++number;
  if (number == 0) return std::nullopt;
  return RunFolder{numbered(wanted, number)};
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
