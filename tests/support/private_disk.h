#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

namespace catena {

/// From now on mounts of this process are seen by itself and what it starts
/// alone. Returns why this machine does not allow that; empty if it does.
[[nodiscard]] std::string keep_mounts_private();

/// A disk of its own at a folder, in memory; gone with the object.
/// Needs keep_mounts_private(). Throws: std::system_error.
class PrivateDisk {
 public:
  PrivateDisk(std::filesystem::path folder, std::int64_t bytes);
  ~PrivateDisk();
  PrivateDisk(const PrivateDisk&) = delete;
  PrivateDisk& operator=(const PrivateDisk&) = delete;

  void resize(std::int64_t bytes);

 private:
  std::filesystem::path folder_;
};

/// A folder that cannot be written to under its name, as long as the object
/// lives: not even by root. Files that are open already still can.
/// Needs keep_mounts_private(). Throws: std::system_error.
class ReadOnlyFolder {
 public:
  explicit ReadOnlyFolder(std::filesystem::path folder);
  ~ReadOnlyFolder();
  ReadOnlyFolder(const ReadOnlyFolder&) = delete;
  ReadOnlyFolder& operator=(const ReadOnlyFolder&) = delete;

 private:
  std::filesystem::path folder_;
};

}  // namespace catena
