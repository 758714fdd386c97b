#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <vector>

namespace catena::doctor {

/// What a program, found on PATH, says on standard output.
/// Nothing if it cannot be started, fails or takes longer than a second; it
/// and what it started are then ended.
[[nodiscard]] std::optional<std::string> ask(
    const std::vector<std::string>& command);

/// Whether there is such a program on PATH.
[[nodiscard]] bool on_search_path(const std::string& program);

/// A library of the system, loaded while the object lives.
class Library {
 public:
  explicit Library(const char* name);
  ~Library();
  Library(const Library&) = delete;
  Library& operator=(const Library&) = delete;

  [[nodiscard]] bool loaded() const { return handle_ != nullptr; }
  /// Null if the library has no such function.
  template <class Function>
  [[nodiscard]] Function* find(const char* name) const {
    return reinterpret_cast<Function*>(address(name));
  }

 private:
  [[nodiscard]] void* address(const char* name) const;
  void* handle_;
};

}  // namespace catena::doctor
