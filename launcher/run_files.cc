#include "launcher/run_files.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <ctime>
#include <string>
#include <string_view>

namespace catena::launcher {

namespace fs = std::filesystem;

namespace {

constexpr std::string_view kStepPrefix = "step-";

}  // namespace

fs::path rank_log(const fs::path& run, int rank) {
  return run / "logs" / fmt::format("rank-{}.log", rank);
}

fs::path mpirun_log(const fs::path& run) { return run / "logs" / "mpirun.log"; }

std::int64_t begin_log(const fs::path& path, int generation,
                       const std::string& more) {
  if (std::FILE* file = std::fopen(path.c_str(), "ae")) {
    fmt::print(file, "-- generation {}, {:%Y-%m-%dT%H:%M:%SZ} --\n", generation,
               fmt::gmtime(std::time(nullptr)));
    if (!more.empty()) fmt::print(file, "-- {} --\n", more);
    std::fclose(file);
  }
  std::error_code none;
  const auto size = fs::file_size(path, none);
  return none ? 0 : static_cast<std::int64_t>(size);
}

std::int64_t newest_checkpoint_step(const fs::path& run) {
  std::int64_t newest = 0;
  std::error_code failed;
  // Not by range: ++ throws where a file system fails half-way.
  for (fs::directory_iterator entry(run / "checkpoints", failed), end;
       !failed && entry != end; entry.increment(failed)) {
    const fs::path& path = entry->path();
    const std::string name = path.filename().string();
    std::int64_t step = 0;
    if (!name.starts_with(kStepPrefix)) continue;
    const char* last = name.data() + name.size();
    const auto [stop, error] =
        std::from_chars(name.data() + kStepPrefix.size(), last, step);
    if (error != std::errc() || stop != last) continue;
    std::error_code none;
    if (fs::exists(path / "MANIFEST.json", none)) {
      newest = std::max(newest, step);
    }
  }
  return newest;
}

}  // namespace catena::launcher
