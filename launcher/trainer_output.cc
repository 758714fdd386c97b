#include "launcher/trainer_output.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "runtime/base/error.h"

namespace catena::launcher {

TrainerOutput trainer_output(const std::filesystem::path& program,
                             const std::vector<std::string>& arguments) {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) {
    fail(ErrorKind::kIo, "no pipe: {}", std::strerror(errno));
  }
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
  std::vector<char*> pointers;
  for (const std::string& argument : arguments) {
    pointers.push_back(const_cast<char*>(argument.c_str()));
  }
  pointers.push_back(nullptr);
  pid_t process = 0;
  const int error = ::posix_spawn(&process, program.c_str(), &actions, nullptr,
                                  pointers.data(), environ);
  ::posix_spawn_file_actions_destroy(&actions);
  ::close(ends[1]);
  TrainerOutput output;
  std::array<char, 4096> part;
  for (ssize_t count = 1; error == 0 && count != 0;) {
    count = ::read(ends[0], part.data(), part.size());
    if (count < 0 && errno != EINTR) break;
    if (count > 0) {
      output.text.append(part.data(), static_cast<std::size_t>(count));
    }
  }
  ::close(ends[0]);
  if (error != 0) {
    fail(ErrorKind::kUnsupported, "cannot run {}: {}", program.string(),
         std::strerror(error));
  }
  int status = 0;
  while (::waitpid(process, &status, 0) < 0 && errno == EINTR) {
  }
  output.code =
      WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
  return output;
}

}  // namespace catena::launcher
