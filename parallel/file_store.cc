#include "parallel/file_store.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <fstream>
#include <thread>

#include "runtime/base/error.h"
#include "runtime/base/files.h"

namespace catena {
namespace {

namespace fs = std::filesystem;

std::string file_name(std::string_view key) {
  std::string name(key);
  std::replace(name.begin(), name.end(), '/', '.');
  return name;
}

}  // namespace

FileStore::FileStore(fs::path folder) : folder_(std::move(folder)) {
  std::error_code error;
  fs::create_directories(folder_, error);
  if (error) {
    fail(ErrorKind::kIo, "{}: {}", folder_.string(), error.message());
  }
}

void FileStore::set(std::string_view key, std::string_view value) {
  static std::atomic<int> number = 0;
  const fs::path path = folder_ / file_name(key);
  const fs::path temporary =
      path.string() + fmt::format(".{}-{}", getpid(), ++number);
  std::ofstream file(temporary, std::ios::binary);
  file << value;
  file.close();
  std::error_code error;
  if (file) fs::rename(temporary, path, error);
  if (!file || error) {
    fail(ErrorKind::kIo, "{}: cannot be written", path.string());
  }
}

std::string FileStore::get(std::string_view key,
                           std::chrono::duration<double> deadline) {
  constexpr std::chrono::milliseconds kNap(1);
  const auto begin = std::chrono::steady_clock::now();
  const fs::path path = folder_ / file_name(key);
  while (!fs::exists(path)) {
    if (std::chrono::steady_clock::now() - begin > deadline) {
      fail(ErrorKind::kTimeout, "nobody has set {} within {:.3g} s", key,
           deadline.count());
    }
    std::this_thread::sleep_for(kNap);
  }
  return read_file(path);
}

}  // namespace catena
