#include "tests/launcher/program.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <utility>

#include "runtime/base/error.h"
#include "runtime/base/files.h"

namespace catena::launcher {
namespace {

namespace fs = std::filesystem;

void redirect(const std::string& file, int flags, int descriptor) {
  const int opened = ::open(file.c_str(), flags, 0600);
  if (opened < 0 || ::dup2(opened, descriptor) < 0) ::_exit(125);
  ::close(opened);
}

void change_environment(const std::vector<std::string>& changes) {
  for (const std::string& change : changes) {
    const auto equals = change.find('=');
    const std::string name = change.substr(0, equals);
    if (equals == std::string::npos) {
      ::unsetenv(name.c_str());
    } else {
      ::setenv(name.c_str(), change.c_str() + equals + 1, 1);
    }
  }
}

}  // namespace

Program::Program(const fs::path& path,
                 const std::vector<std::string>& arguments,
                 const std::vector<std::string>& environment) {
  std::string name = (fs::temp_directory_path() / "programXXXXXX").string();
  folder_ = ::mkdtemp(name.data());
  std::vector<char*> pointers;
  for (const std::string& argument : arguments) {
    pointers.push_back(const_cast<char*>(argument.c_str()));
  }
  pointers.push_back(nullptr);
  process_ = ::fork();
  CATENA_CHECK(process_ >= 0, "[program] fork");
  if (process_ > 0) return;
  redirect("/dev/null", O_RDONLY, STDIN_FILENO);
  redirect(folder_ / "output", O_WRONLY | O_CREAT, STDOUT_FILENO);
  redirect(folder_ / "error", O_WRONLY | O_CREAT, STDERR_FILENO);
  change_environment(environment);
  ::execv(path.c_str(), pointers.data());
  ::_exit(126);
}

Program::~Program() {
  if (process_ > 0) {
    ::kill(process_, SIGKILL);
    ::waitpid(process_, nullptr, 0);
  }
  std::error_code ignored;
  fs::remove_all(folder_, ignored);
}

Outcome Program::wait() {
  int status = 0;
  pid_t done = 0;
  do {
    done = ::waitpid(process_, &status, 0);
  } while (done < 0 && errno == EINTR);
  CATENA_CHECK(done == process_, "[program] wait");
  process_ = -1;
  Outcome outcome;
  if (WIFEXITED(status)) outcome.code = WEXITSTATUS(status);
  if (WIFSIGNALED(status)) outcome.signal = WTERMSIG(status);
  outcome.output = read_file(folder_ / "output");
  outcome.error = read_file(folder_ / "error");
  return outcome;
}

}  // namespace catena::launcher
