#include "launcher/agent_process.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <spawn.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <utility>

#include "runtime/base/error.h"

namespace catena::launcher {
namespace {

/// posix_spawn()'s two structures, of a child as AgentProcess describes it.
class Spawning {
 public:
  explicit Spawning(int input) {
    ::posix_spawn_file_actions_init(&actions_);
    ::posix_spawn_file_actions_adddup2(&actions_, input, STDIN_FILENO);
    // Sockets of Asio stay open over exec: nobody would see them close.
    ::posix_spawn_file_actions_addclosefrom_np(&actions_, STDERR_FILENO + 1);
    ::posix_spawnattr_init(&attributes_);
    sigset_t all;
    ::sigfillset(&all);
    ::posix_spawnattr_setsigdefault(&attributes_, &all);
    sigset_t none;
    ::sigemptyset(&none);
    ::posix_spawnattr_setsigmask(&attributes_, &none);
    ::posix_spawnattr_setpgroup(&attributes_, 0);
    ::posix_spawnattr_setflags(&attributes_, POSIX_SPAWN_SETPGROUP |
                                                 POSIX_SPAWN_SETSIGDEF |
                                                 POSIX_SPAWN_SETSIGMASK);
  }
  ~Spawning() {
    ::posix_spawn_file_actions_destroy(&actions_);
    ::posix_spawnattr_destroy(&attributes_);
  }
  Spawning(const Spawning&) = delete;
  Spawning& operator=(const Spawning&) = delete;

  int run(int& process, const std::vector<std::string>& command) {
    std::vector<char*> pointers;
    for (const std::string& argument : command) {
      pointers.push_back(const_cast<char*>(argument.c_str()));
    }
    pointers.push_back(nullptr);
    return ::posix_spawnp(&process, command.front().c_str(), &actions_,
                          &attributes_, pointers.data(), environ);
  }

 private:
  posix_spawn_file_actions_t actions_{};
  posix_spawnattr_t attributes_{};
};

}  // namespace

AgentProcess::AgentProcess(const std::vector<std::string>& command,
                           const std::string& line) {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) {
    fail(ErrorKind::kIo, "no pipe: {}", std::strerror(errno));
  }
  input_ = ends[1];
  const int error = Spawning(ends[0]).run(process_, command);
  ::close(ends[0]);
  if (error != 0) {
    process_ = 0;
    dismiss();
    fail(ErrorKind::kUnsupported, "cannot run {}: {}", command.front(),
         std::strerror(error));
  }
  const std::string text = line + "\n";
  // If it has ended already, it will be reaped.
  static_cast<void>(::write(input_, text.data(), text.size()) < 0);
}

AgentProcess::~AgentProcess() { dismiss(); }

AgentProcess::AgentProcess(AgentProcess&& other) noexcept
    : process_(std::exchange(other.process_, 0)),
      input_(std::exchange(other.input_, -1)) {}

AgentProcess& AgentProcess::operator=(AgentProcess&& other) noexcept {
  std::swap(process_, other.process_);
  std::swap(input_, other.input_);
  return *this;
}

void AgentProcess::dismiss() {
  if (input_ >= 0) ::close(std::exchange(input_, -1));
}

}  // namespace catena::launcher
