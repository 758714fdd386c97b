#include "training/control_line.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <ctime>
#include <mutex>
#include <string>

#include "launcher/contract.h"
#include "parallel/tag.h"
#include "parallel/wait_listener.h"
#include "training/stack_report.h"
#include "training/stop.h"

namespace catena::control_line {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kPatienceMilliseconds = 1000;
constexpr std::chrono::milliseconds kBetweenSteps(100);

std::mutex mutex;
int pipe_end = -1;
Clock::time_point next_step{};
std::int64_t step_taken = 0;
const char* section = "";
bool section_owed = false;  ///< it is not said yet: the pipe was full

/// A pipe that nobody reads any more ends no rank: write() without SIGPIPE,
/// which comes to the thread that wrote.
ssize_t write_quietly(const std::string& line) {
  sigset_t broken, before;
  ::sigemptyset(&broken);
  ::sigaddset(&broken, SIGPIPE);
  ::pthread_sigmask(SIG_BLOCK, &broken, &before);
  const ssize_t count = ::write(pipe_end, line.data(), line.size());
  if (count < 0 && errno == EPIPE) {
    const std::timespec at_once{};
    ::sigtimedwait(&broken, nullptr, &at_once);
    ::close(pipe_end);
    pipe_end = -1;
  }
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return count;
}

// A line is shorter than PIPE_BUF: it is written whole or not at all.
bool write_line(const std::string& line, int patience) {
  pollfd ready{pipe_end, POLLOUT, 0};
  if (::poll(&ready, 1, patience) <= 0 || (ready.revents & POLLOUT) == 0) {
    return false;
  }
  return write_quietly(line) >= 0;
}

/// In the order in which things happened: what was owed first.
void put(const std::string& line, int patience) {
  if (section_owed) {
    section_owed =
        !write_line(fmt::format("{}{}\n", kSaidSection, section), patience);
  }
  if (!line.empty() && !section_owed) write_line(line, patience);
}

void note(const std::string& more) {
  stack_report::note(
      fmt::format("section {}, after step {}{}", section, step_taken, more));
}

void begin_section(const char* name) {
  section = name;
  section_owed = true;
  put("", 0);
  note("");
}

void say_wait(const Wait& wait) {
  const std::lock_guard lock(mutex);
  if (pipe_end < 0) return;
  put(fmt::format("{}{} {}\n", kSaidWaits, wait.missing, text_of(wait.tag)), 0);
  note(fmt::format("; waits for rank {} in {}, for {:.0f} s", wait.missing,
                   text_of(wait.tag), wait.seconds));
}

/// mpirun hands down no pipe but the standard ones, from machine to machine.
int take_standard_output() {
  const int own = ::fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
  if (own < 0 || ::dup2(STDERR_FILENO, STDOUT_FILENO) < 0) return -1;
  // Ended by SIGKILL, mpirun and its daemons end nobody.
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  return own;
}

}  // namespace

void open() {
  const char* told = std::getenv(kControlVariable);
  if (told == nullptr) return;
  const std::lock_guard lock(mutex);
  int descriptor = std::atoi(told);
  const bool by_mpirun = descriptor == STDOUT_FILENO;
  ::unsetenv(kControlVariable);
  if (by_mpirun) descriptor = take_standard_output();
  if (descriptor <= STDERR_FILENO ||
      ::fcntl(descriptor, F_SETFD, FD_CLOEXEC) != 0) {
    return;
  }
  ::fcntl(descriptor, F_SETFL, O_NONBLOCK);
  pipe_end = descriptor;
  // Before the first section: who says one is asked for its stack.
  stack_report::install();
  install_save_signal();
  set_wait_listener(say_wait);
  if (by_mpirun) put(fmt::format("{}{}\n", kSaidProcess, ::getpid()), 0);
  begin_section(kSectionStart);
}

bool is_open() {
  const std::lock_guard lock(mutex);
  return pipe_end >= 0;
}

void say(const char* word) {
  const std::lock_guard lock(mutex);
  if (pipe_end < 0) return;
  put(std::string(word) + "\n", kPatienceMilliseconds);
}

void say_section(const char* name) {
  const std::lock_guard lock(mutex);
  if (pipe_end < 0 || name == section) return;
  begin_section(name);
}

void say_step(std::int64_t step) {
  const std::lock_guard lock(mutex);
  if (pipe_end < 0) return;
  step_taken = step;
  if (Clock::now() < next_step) return;
  next_step = Clock::now() + kBetweenSteps;
  put(fmt::format("{}{}\n", kSaidStep, step), 0);
  note("");
}

}  // namespace catena::control_line
