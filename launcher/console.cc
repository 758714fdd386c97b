#include "launcher/console.h"

#include <cstdio>
#include <fstream>
#include <string>

namespace catena::launcher {

Console::Console(std::filesystem::path log) : log_(std::move(log)) {
  std::error_code none;
  const auto size = std::filesystem::file_size(log_, none);
  if (!none) shown_ = static_cast<std::int64_t>(size);
}

void Console::copy() {
  std::ifstream file(log_, std::ios::binary);
  file.seekg(0, std::ios::end);
  const std::int64_t size = file.tellg();
  if (!file || size <= shown_) return;
  std::string text(static_cast<std::size_t>(size - shown_), '\0');
  file.seekg(shown_);
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<std::size_t>(file.gcount()));
  const auto end = text.rfind('\n');
  if (end == std::string::npos) return;
  shown_ += static_cast<std::int64_t>(end) + 1;
  std::fwrite(text.data(), 1, end + 1, stderr);
}

}  // namespace catena::launcher
