#include "training/control_line.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <mutex>
#include <string>

#include "launcher/contract.h"

namespace catena::control_line {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kPatienceMilliseconds = 1000;
constexpr std::chrono::milliseconds kBetweenSteps(100);

std::mutex mutex;
int pipe_end = -1;
Clock::time_point next_step{};

// A line is shorter than PIPE_BUF: it is written whole or not at all.
void write_line(const std::string& line, int patience) {
  if (pipe_end < 0) return;
  pollfd ready{pipe_end, POLLOUT, 0};
  if (::poll(&ready, 1, patience) <= 0 || (ready.revents & POLLOUT) == 0) {
    return;
  }
  if (::write(pipe_end, line.data(), line.size()) < 0) return;
}

}  // namespace

void open() {
  const char* told = std::getenv(kControlVariable);
  if (told == nullptr) return;
  const std::lock_guard lock(mutex);
  const int descriptor = std::atoi(told);
  ::unsetenv(kControlVariable);
  if (descriptor <= STDERR_FILENO ||
      ::fcntl(descriptor, F_SETFD, FD_CLOEXEC) != 0) {
    return;
  }
  ::fcntl(descriptor, F_SETFL, O_NONBLOCK);
  pipe_end = descriptor;
}

void say(const char* word) {
  const std::lock_guard lock(mutex);
  write_line(std::string(word) + "\n", kPatienceMilliseconds);
}

void say_step(std::int64_t step) {
  const std::lock_guard lock(mutex);
  if (pipe_end < 0 || Clock::now() < next_step) return;
  next_step = Clock::now() + kBetweenSteps;
  write_line(fmt::format("{}{}\n", kSaidStep, step), 0);
}

}  // namespace catena::control_line
