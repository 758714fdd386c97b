#pragma once

#include <chrono>
#include <filesystem>
#include <optional>

namespace catena::launcher {

/// The process of this machine that holds a FileLock: one whose number the lock
/// file names and that has this very file open, which no other process can make
/// it have. From then on the process is known by a descriptor (pidfd), so that
/// another one which gets its number later is never taken for it. Movable.
class LockHolder {
 public:
  /// None: nobody on this machine holds it, as far as we may see; processes of
  /// other users cannot be looked at.
  [[nodiscard]] static std::optional<LockHolder> find(
      const std::filesystem::path& lock);
  ~LockHolder();
  LockHolder(LockHolder&& other) noexcept;
  LockHolder& operator=(LockHolder&& other) noexcept;

  [[nodiscard]] int process() const { return process_; }
  /// Nothing happens if it has ended.
  /// Throws: Error(kIo) if it may not be signalled.
  void signal(int number) const;
  /// Returns: whether it has ended.
  [[nodiscard]] bool wait(std::chrono::milliseconds most) const;

 private:
  LockHolder(int process, int descriptor)
      : process_(process), descriptor_(descriptor) {}
  int process_, descriptor_;
};

}  // namespace catena::launcher
