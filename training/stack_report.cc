#include "training/stack_report.h"

#include <execinfo.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstring>

namespace catena::stack_report {
namespace {

constexpr std::size_t kMostBytes = 200;
constexpr int kMostFrames = 64;

using Text = std::array<char, kMostBytes + 1>;
// The handler reads one while the other is written.
std::array<Text, 2> texts{};
std::atomic<int> shown = 0;

void put(const char* text) {
  static_cast<void>(!::write(STDERR_FILENO, text, std::strlen(text)));
}

void on_signal(int) {
  const int before = errno;
  std::array<void*, kMostFrames> frames;
  put("\n-- stack, as asked for by SIGUSR2\n");
  ::backtrace_symbols_fd(frames.data(), ::backtrace(frames.data(), kMostFrames),
                         STDERR_FILENO);
  put("-- ");
  put(texts.at(static_cast<std::size_t>(shown.load())).data());
  put("\n");
  errno = before;
}

}  // namespace

void install() {
  // The first call loads a library, which a handler may not.
  std::array<void*, 1> frame;
  ::backtrace(frame.data(), 1);
  struct sigaction action {};
  action.sa_handler = on_signal;
  ::sigemptyset(&action.sa_mask);
  action.sa_flags = SA_RESTART;
  ::sigaction(SIGUSR2, &action, nullptr);
}

void note(std::string_view text) {
  const int next = 1 - shown.load();
  Text& to = texts.at(static_cast<std::size_t>(next));
  const std::size_t bytes = std::min(text.size(), kMostBytes);
  std::copy_n(text.data(), bytes, to.data());
  to.at(bytes) = '\0';
  shown.store(next);
}

}  // namespace catena::stack_report
