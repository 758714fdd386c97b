#include "launcher/children.h"

#include <sys/wait.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <thread>
#include <utility>
#include <vector>

#include "runtime/base/log.h"

namespace catena::launcher {
namespace {

constexpr std::chrono::milliseconds kGlance(2);

/// Of one that has ended.
int reap_with_group(int process) {
  ::kill(-process, SIGKILL);
  int status = 0;
  while (::waitpid(process, &status, 0) < 0 && errno == EINTR) {
  }
  return status;
}

/// They and their groups have been sent SIGKILL.
void reap_killed(std::vector<int> processes) {
  const auto until = std::chrono::steady_clock::now() + Children::kPatience;
  for (;;) {
    std::erase_if(processes, [](int process) {
      const int ended = ::waitpid(process, nullptr, WNOHANG);
      return ended == process || (ended < 0 && errno != EINTR);
    });
    if (processes.empty() || std::chrono::steady_clock::now() >= until) break;
    std::this_thread::sleep_for(kGlance);
  }
  for (const int process : processes) {
    log::warning("process {} was killed and does not end; it is left behind",
                 process);
  }
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
  if (watched_.erase(process) == 0) return;
  ::kill(-process, SIGKILL);
  reap_killed({process});
}

void Children::kill_all() {
  std::vector<int> processes;
  for (const auto& [process, ended] : watched_) {
    ::kill(-process, SIGKILL);
    processes.push_back(process);
  }
  watched_.clear();
  reap_killed(std::move(processes));
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
