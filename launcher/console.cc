#include "launcher/console.h"

#include <fstream>
#include <string>
#include <utility>

#include "runtime/base/log.h"

namespace catena::launcher {
namespace {

constexpr std::size_t kPiece = 64 << 10;

}  // namespace

Console::Console(std::filesystem::path log) : log_(std::move(log)) {
  std::error_code none;
  const auto size = std::filesystem::file_size(log_, none);
  if (!none) shown_ = static_cast<std::int64_t>(size);
}

bool Console::copy() {
  std::ifstream file(log_, std::ios::binary);
  std::string text(kPiece, '\0');
  file.seekg(shown_);
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<std::size_t>(file.gcount()));
  const auto end = text.rfind('\n');
  if (end != std::string::npos) {
    text.resize(end + 1);
  } else if (text.size() < kPiece) {
    return false;
  }
  if (!log::show(text)) return false;
  shown_ += static_cast<std::int64_t>(text.size());
  return true;
}

}  // namespace catena::launcher
