#pragma once

#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <string>

namespace catena {

/// Chromium without a window, and one page in it, told what to do by its
/// DevTools protocol over a pipe.
class Browser {
 public:
  /// What a page is looked at on. Sizes are CSS pixels.
  struct Screen {
    int width = 1280, height = 800;
    bool phone = false;  ///< it obeys <meta name="viewport">
    bool dark = false;   ///< what prefers-color-scheme says
  };

  [[nodiscard]] static bool installed();

  /// Its profile, and what it says, are kept in `folder`.
  /// Throws: Error(kIo) where it cannot be started or does not answer within a
  /// minute; so do the others.
  explicit Browser(const std::filesystem::path& folder);
  ~Browser();
  Browser(const Browser&) = delete;
  Browser& operator=(const Browser&) = delete;

  /// From now on, also for a page that is open.
  void look_on(const Screen& screen);
  /// Until the page is loaded.
  void open(const std::string& address);
  /// The value of an expression of JavaScript in the page, awaited if it is a
  /// promise.
  [[nodiscard]] nlohmann::json value(const std::string& expression);
  /// Presses and lets go a key where the focus is: "Tab", "Space", "Home",
  /// "End" or "ArrowLeft" and its like.
  void press(const std::string& key);
  /// Writes what a screen of the same width, as high as the page, shows.
  void picture(const std::filesystem::path& png);

 private:
  nlohmann::json ask(const char* method, const nlohmann::json& parameters);
  void set_size(int width, int height);

  std::filesystem::path folder_;
  Screen screen_ = {};
  std::string session_, held_;
  int process_ = -1, to_ = -1, from_ = -1, asked_ = 0;
};

}  // namespace catena
