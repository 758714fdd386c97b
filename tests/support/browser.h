#pragma once

#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <string>

namespace catena {

/// Chromium without a window, and one page in it, told what to do by its
/// DevTools protocol over a pipe.
class Browser {
 public:
  [[nodiscard]] static bool installed();

  /// Its profile, and what it says, are kept in `folder`.
  /// Throws: Error(kIo) where it cannot be started or does not answer within a
  /// minute; so do the others.
  explicit Browser(const std::filesystem::path& folder);
  ~Browser();
  Browser(const Browser&) = delete;
  Browser& operator=(const Browser&) = delete;

  /// Until the page is loaded.
  void open(const std::string& address);
  /// The value of an expression of JavaScript in the page, awaited if it is a
  /// promise.
  [[nodiscard]] nlohmann::json value(const std::string& expression);
  /// Writes what a window of this width, as high as the page, shows.
  void picture(const std::filesystem::path& png, int width);

 private:
  nlohmann::json ask(const char* method, const nlohmann::json& parameters);

  std::filesystem::path folder_;
  std::string session_, held_;
  int process_ = -1, to_ = -1, from_ = -1, asked_ = 0;
};

}  // namespace catena
