#include "training/run_folder.h"

#include "runtime/base/error.h"

namespace catena {

namespace fs = std::filesystem;

RunFolder RunFolder::create(const Config& config, const std::string& name) {
  std::string pattern = config.run.folder;
  if (const auto at = pattern.find("{name}"); at != std::string::npos) {
    pattern.replace(at, 6, name);
  }
  const fs::path wanted(pattern);
  std::error_code code;
  if (wanted.has_parent_path()) {
    fs::create_directories(wanted.parent_path(), code);
  }
  for (int number = 1; !code; ++number) {
    fs::path path = wanted;
    if (number > 1) path += fmt::format("-{}", number);
    // Creation itself decides, so that two runs never share a folder.
    if (fs::create_directory(path, code)) return {path};
  }
  fail(ErrorKind::kIo,
       "{}: cannot make the run's folder: {}; choose another "
       "with --set run.folder=...",
       wanted.string(), code.message());
}

RunFolder RunFolder::open(const fs::path& path) {
  const RunFolder run{path};
  for (const fs::path& file : {run.config(), run.weights(), run.tokenizer()}) {
    if (!fs::exists(file)) {
      fail(ErrorKind::kData,
           "{}: is no finished run: {} is missing; give the folder that "
           "`catena train` printed",
           path.string(), file.filename().string());
    }
  }
  return run;
}

}  // namespace catena
