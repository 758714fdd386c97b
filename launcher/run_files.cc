#include "launcher/run_files.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
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

std::int64_t newest_checkpoint_step(const fs::path& run) {
  std::int64_t newest = 0;
  std::error_code none;
  for (const auto& entry : fs::directory_iterator(run / "checkpoints", none)) {
    const std::string name = entry.path().filename().string();
    std::int64_t step = 0;
    if (!name.starts_with(kStepPrefix)) continue;
    const char* end = name.data() + name.size();
    const auto [stop, error] =
        std::from_chars(name.data() + kStepPrefix.size(), end, step);
    if (error != std::errc() || stop != end) continue;
    if (fs::exists(entry.path() / "MANIFEST.json", none)) {
      newest = std::max(newest, step);
    }
  }
  return newest;
}

}  // namespace catena::launcher
