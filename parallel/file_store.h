#pragma once

#include <filesystem>

#include "parallel/store.h"

namespace catena {

/// A store in a folder that all ranks see: a file a key. For tests and
/// measurements, where nobody serves one. The folder is made where it is
/// missing, and left.
/// Thread rule: any number, also of processes.
class FileStore final : public Store {
 public:
  explicit FileStore(std::filesystem::path folder);
  /// See base. Throws: Io.
  void set(std::string_view key, std::string_view value) override;
  [[nodiscard]] std::string get(
      std::string_view key, std::chrono::duration<double> deadline) override;

 private:
  std::filesystem::path folder_;
};

}  // namespace catena
