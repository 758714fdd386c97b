#include "launcher/terminal.h"

#include <poll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <ctime>
#include <string_view>

namespace catena::launcher {
namespace {

constexpr std::string_view kEnter = "\x1b[?1049h\x1b[?25l";
constexpr std::string_view kLeave = "\x1b[?25h\x1b[?1049l";
constexpr std::string_view kHome = "\x1b[H", kEndOfLine = "\x1b[K\r\n",
                           kEndOfScreen = "\x1b[J";
constexpr char kControlC = '\x03';
constexpr std::array<int, 4> kLeaving = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};

volatile std::sig_atomic_t wants_to_leave = 0;

void leave(int) { wants_to_leave = 1; }
void redraw(int) {}

void handle(int signal, void (*handler)(int)) {
  struct sigaction action {};
  action.sa_handler = handler;
  ::sigaction(signal, &action, nullptr);
}

void put(std::string_view text) {
  while (!text.empty()) {
    const ssize_t count = ::write(STDOUT_FILENO, text.data(), text.size());
    if (count < 0 && errno != EINTR) return;
    if (count > 0) text.remove_prefix(static_cast<std::size_t>(count));
  }
}

}  // namespace

bool can_draw() {
  const char* kind = std::getenv("TERM");
  return ::isatty(STDOUT_FILENO) == 1 && kind != nullptr &&
         std::string_view(kind) != "dumb";
}

bool draws_colors() {
  const char* unwanted = std::getenv("NO_COLOR");
  return can_draw() && (unwanted == nullptr || *unwanted == '\0');
}

Screen::Screen() {
  // They come while wait() waits, and at no other time.
  sigset_t held;
  ::sigemptyset(&held);
  for (const int signal : kLeaving) ::sigaddset(&held, signal);
  ::sigaddset(&held, SIGWINCH);
  ::sigprocmask(SIG_BLOCK, &held, &mask_);
  for (const int signal : kLeaving) handle(signal, leave);
  handle(SIGWINCH, redraw);
  keys_ = ::tcgetattr(STDIN_FILENO, &before_) == 0;
  if (keys_) {
    termios now = before_;
    now.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO | ISIG);
    ::tcsetattr(STDIN_FILENO, TCSANOW, &now);
  }
  put(kEnter);
}

Screen::~Screen() {
  put(kLeave);
  if (keys_) ::tcsetattr(STDIN_FILENO, TCSANOW, &before_);
  for (const int signal : kLeaving) handle(signal, SIG_DFL);
  handle(SIGWINCH, SIG_DFL);
  ::sigprocmask(SIG_SETMASK, &mask_, nullptr);
}

TerminalSize Screen::size() const {
  winsize size{};
  if (::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0 ||
      size.ws_row == 0) {
    return {};
  }
  return {size.ws_col, size.ws_row};
}

void Screen::draw(const std::vector<std::string>& lines) {
  std::string text(kHome);
  for (std::size_t i = 0; i < lines.size(); ++i) {
    // No newline at the end: it would scroll a full screen.
    text += lines[i];
    text += i + 1 < lines.size() ? kEndOfLine : "\x1b[K";
  }
  text += kEndOfScreen;
  put(text);
}

bool Screen::wait(std::chrono::milliseconds most) {
  pollfd key{.fd = keys_ ? STDIN_FILENO : -1, .events = POLLIN, .revents = 0};
  const auto seconds = std::chrono::floor<std::chrono::seconds>(most);
  const timespec time{
      .tv_sec = seconds.count(),
      .tv_nsec = std::chrono::nanoseconds(most - seconds).count()};
  const int ready = ::ppoll(&key, 1, &time, &mask_);
  if (wants_to_leave != 0) return true;
  if (ready <= 0) return false;
  std::array<char, 64> keys{};
  const ssize_t count = ::read(STDIN_FILENO, keys.data(), keys.size());
  if (count <= 0) return true;
  const std::string_view typed(keys.data(), static_cast<std::size_t>(count));
  return typed.find('q') != std::string_view::npos ||
         typed.find(kControlC) != std::string_view::npos;
}

}  // namespace catena::launcher
