#include "launcher/children.h"

#include <sys/wait.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <thread>
#include <utility>

namespace catena::launcher {
namespace {

constexpr std::chrono::milliseconds kGlance(5);

int reap_with_group(int process) {
  ::kill(-process, SIGKILL);
  int status = 0;
  while (::waitpid(process, &status, 0) < 0 && errno == EINTR) {
  }
  return status;
}

/// A child that has ended and is not reaped; 0: there is none.
int next_ended() {
  siginfo_t ended{};
  const int none = ::waitid(P_ALL, 0, &ended, WEXITED | WNOHANG | WNOWAIT);
  return none == 0 ? ended.si_pid : 0;
}

}  // namespace

Children::Children(boost::asio::io_context& context)
    : signals_(context, SIGCHLD) {
  wait_for_signal();
}

Children::~Children() { kill_all(); }

void Children::watch(int process, Ended ended) {
  watched_.insert_or_assign(process, std::move(ended));
}

void Children::kill(int process) {
  if (watched_.erase(process) != 0) reap_with_group(process);
}

void Children::kill_all() {
  while (!watched_.empty()) kill(watched_.begin()->first);
}

void Children::wait_for_all(Duration most) {
  const auto until = std::chrono::steady_clock::now() + most;
  for (;;) {
    reap([](Ended&, int) {});
    if (watched_.empty() || std::chrono::steady_clock::now() >= until) return;
    std::this_thread::sleep_for(kGlance);
  }
}

void Children::wait_for_signal() {
  signals_.async_wait([this](const boost::system::error_code& error, int) {
    if (error) return;
    reap([](Ended& ended, int status) { ended(status); });
    wait_for_signal();
  });
}

/// One SIGCHLD may stand for several.
void Children::reap(const std::function<void(Ended&, int status)>& tell) {
  for (int process = next_ended(); process != 0; process = next_ended()) {
    auto child = watched_.extract(process);
    if (child.empty()) {
      ::waitpid(process, nullptr, 0);
      continue;
    }
    const int status = reap_with_group(process);
    tell(child.mapped(), status);
  }
}

}  // namespace catena::launcher
