#pragma once

#include <termios.h>

#include <chrono>
#include <csignal>
#include <string>
#include <vector>

namespace catena::launcher {

struct TerminalSize {
  int columns = 80, rows = 24;
};

/// Standard output is a terminal that can be drawn on.
[[nodiscard]] bool can_draw();
/// Colours are wanted there: no NO_COLOR in the environment.
[[nodiscard]] bool draws_colors();

/// The terminal's second screen, while this lives, with keys taken one by one.
/// However the process ends short of SIGKILL, it is as it was before: SIGINT,
/// SIGTERM, SIGHUP and SIGQUIT are taken as wishes to leave. One at a time, in
/// the main thread.
class Screen {
 public:
  Screen();
  ~Screen();
  Screen(const Screen&) = delete;
  Screen& operator=(const Screen&) = delete;

  [[nodiscard]] TerminalSize size() const;
  /// Shows these lines and nothing else, without flicker.
  void draw(const std::vector<std::string>& lines);
  /// Waits for a key, a change of size or the time to pass. Returns: whether
  /// to leave, by "q", Ctrl-C, a signal, or as the terminal is gone.
  [[nodiscard]] bool wait(std::chrono::milliseconds most);

 private:
  bool keys_ = false;  ///< standard input is a terminal
  termios before_{};
  sigset_t mask_{};
};

}  // namespace catena::launcher
