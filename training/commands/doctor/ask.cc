#include "training/commands/doctor/ask.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <sstream>
#include <thread>

namespace catena::doctor {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr milliseconds kPatience{1000};

/// The process, which leads a group of its own; -1 if there is none.
pid_t spawn(const std::vector<std::string>& command, int output) {
  std::vector<char*> words;
  for (const std::string& word : command) {
    words.push_back(const_cast<char*>(word.c_str()));
  }
  words.push_back(nullptr);
  posix_spawn_file_actions_t files;
  posix_spawnattr_t attributes;
  ::posix_spawn_file_actions_init(&files);
  ::posix_spawnattr_init(&attributes);
  ::posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null",
                                     O_RDONLY, 0);
  ::posix_spawn_file_actions_adddup2(&files, output, STDOUT_FILENO);
  ::posix_spawn_file_actions_addopen(&files, STDERR_FILENO, "/dev/null",
                                     O_WRONLY, 0);
  ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);
  pid_t child = -1;
  if (::posix_spawnp(&child, words[0], &files, &attributes, words.data(),
                     environ) != 0) {
    child = -1;
  }
  ::posix_spawn_file_actions_destroy(&files);
  ::posix_spawnattr_destroy(&attributes);
  return child;
}

/// Everything until the other end is closed or time is up.
std::string read_until(int descriptor, Clock::time_point end) {
  std::string text;
  for (;;) {
    const auto left =
        std::chrono::duration_cast<milliseconds>(end - Clock::now());
    pollfd wanted{descriptor, POLLIN, 0};
    if (left.count() <= 0 ||
        ::poll(&wanted, 1, static_cast<int>(left.count())) <= 0) {
      return text;
    }
    char buffer[4096];
    const ssize_t count = ::read(descriptor, buffer, sizeof buffer);
    if (count <= 0) return text;
    text.append(buffer, static_cast<std::size_t>(count));
  }
}

/// Waits for its end until time is up, and then makes it end. Whether it
/// ended by itself, with success.
bool succeeded(pid_t child, Clock::time_point end) {
  int status = 0;
  while (::waitpid(child, &status, WNOHANG) == 0) {
    if (Clock::now() >= end) {
      ::kill(-child, SIGKILL);
      ::waitpid(child, &status, 0);
      return false;
    }
    std::this_thread::sleep_for(milliseconds(1));
  }
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

}  // namespace

std::optional<std::string> ask(const std::vector<std::string>& command) {
  const auto end = Clock::now() + kPatience;
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return std::nullopt;
  const pid_t child = spawn(command, ends[1]);
  ::close(ends[1]);
  std::optional<std::string> answer;
  if (child > 0) {
    answer = read_until(ends[0], end);
    if (!succeeded(child, end)) answer.reset();
  }
  ::close(ends[0]);
  return answer;
}

bool on_search_path(const std::string& program) {
  const char* variable = std::getenv("PATH");
  std::istringstream folders(variable == nullptr ? "" : variable);
  for (std::string folder; std::getline(folders, folder, ':');) {
    if (::access((folder + "/" + program).c_str(), X_OK) == 0) return true;
  }
  return false;
}

Library::Library(const char* name)
    : handle_(::dlopen(name, RTLD_LAZY | RTLD_LOCAL)) {}

Library::~Library() {
  if (handle_ != nullptr) ::dlclose(handle_);
}

void* Library::address(const char* name) const {
  return handle_ == nullptr ? nullptr : ::dlsym(handle_, name);
}

}  // namespace catena::doctor
