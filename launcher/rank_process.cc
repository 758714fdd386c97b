#include "launcher/rank_process.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <thread>
#include <utility>

#include "launcher/contract.h"
#include "launcher/descriptor.h"
#include "runtime/base/error.h"
#include "runtime/base/signals_held.h"

namespace catena::launcher {
namespace {

std::vector<char*> pointers_to(const std::vector<std::string>& texts) {
  std::vector<char*> pointers;
  for (const std::string& text : texts) {
    pointers.push_back(const_cast<char*>(text.c_str()));
  }
  pointers.push_back(nullptr);
  return pointers;
}

/// What the child needs, made before fork: after it, nothing allocates.
struct Ready {
  const char* path;
  char* const* arguments;
  char* const* environment;
  int input, output, error, problem;
  const std::vector<int>* descriptors;
  const ProcessorMask* mask;
  pid_t parent;
};

[[noreturn]] void give_up(int problem) {
  const int error = errno;
  if (::write(problem, &error, sizeof error) < 0) ::_exit(kExitInternal);
  ::_exit(kExitNotExecutable);
}

[[noreturn]] void become(const Ready& ready) {
  for (int signal = 1; signal < NSIG; ++signal) ::signal(signal, SIG_DFL);
  ::setsid();
  // The parent may be gone already: then nothing would come.
  if (::prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || ::getppid() != ready.parent) {
    ::_exit(kExitInternal);
  }
  if (::dup2(ready.input, STDIN_FILENO) < 0 ||
      ::dup2(ready.output, STDOUT_FILENO) < 0 ||
      ::dup2(ready.error, STDERR_FILENO) < 0) {
    give_up(ready.problem);
  }
  bind_caller(*ready.mask);
  ::close_range(STDERR_FILENO + 1, ~0U, CLOSE_RANGE_CLOEXEC);
  for (const int descriptor : *ready.descriptors) {
    ::fcntl(descriptor, F_SETFD, 0);
  }
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  ::execve(ready.path, ready.arguments, ready.environment);
  give_up(ready.problem);
}

Spawned refused(int code, int error, const std::string& what) {
  return {.code = code,
          .why = fmt::format("{}: {}", what, std::strerror(error))};
}

/// Whether it may be otherwise at another start: something is used up for now,
/// or a file system fails.
bool may_pass(int error) {
  switch (error) {
    case EAGAIN:
    case EINTR:
    case EIO:
    case EMFILE:
    case ENFILE:
    case ENOMEM:
    case ESTALE:
    case ETIMEDOUT:
    case ETXTBSY:
      return true;
    default:
      return false;
  }
}

int code_of_log(int error) {
  return may_pass(error) ? kExitInternal : kExitStorage;
}

int code_of_program(int error) {
  if (may_pass(error)) return kExitInternal;
  return error == ENOENT ? kExitNotFound : kExitNotExecutable;
}

std::vector<int> children() {
  std::vector<int> result;
  std::ifstream file(fmt::format("/proc/self/task/{}/children", ::getpid()));
  for (int child = 0; file >> child;) result.push_back(child);
  return result;
}

}  // namespace

Spawned spawn(const RankProgram& program) {
  const Descriptor input(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  if (input.get() < 0) return refused(kExitInternal, errno, "/dev/null");
  const bool to_log = !program.log.empty();
  const Descriptor log(
      to_log ? ::open(program.log.c_str(),
                      O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644)
             : -1);
  if (to_log && log.get() < 0) {
    return refused(code_of_log(errno), errno, program.log.string());
  }
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) {
    return refused(kExitInternal, errno, "pipe");
  }
  const Descriptor problem(ends[0]);
  Descriptor problem_end(ends[1]);
  const auto arguments = pointers_to(program.arguments);
  const auto environment = pointers_to(program.environment);
  const auto mask = mask_of(program.processors);
  const Ready ready{program.path.c_str(),
                    arguments.data(),
                    environment.data(),
                    input.get(),
                    to_log ? log.get() : program.output,
                    to_log ? log.get() : program.error,
                    problem_end.get(),
                    &program.descriptors,
                    &mask,
                    ::getpid()};
  pid_t process = -1;
  {
    // Else a handler of this process could run in the child before exec.
    const SignalsHeld held;
    process = ::fork();
    if (process == 0) become(ready);
  }
  if (process < 0) return refused(kExitInternal, errno, "fork");
  problem_end.reset();
  int error = 0;
  ssize_t count = 0;
  do {
    count = ::read(problem.get(), &error, sizeof error);
  } while (count < 0 && errno == EINTR);
  if (count != sizeof error) return {.process = process};
  ::waitpid(process, nullptr, 0);
  return refused(code_of_program(error), error, program.path.string());
}

void adopt_orphans() { ::prctl(PR_SET_CHILD_SUBREAPER, 1); }

void sweep_children() {
  using Clock = std::chrono::steady_clock;
  const auto until = Clock::now() + std::chrono::seconds(2);
  while (Clock::now() < until) {
    const std::vector<int> all = children();
    if (all.empty()) return;
    for (const int child : all) ::kill(child, SIGKILL);
    while (::waitpid(-1, nullptr, WNOHANG) > 0) {
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
}

void remove_shared_memory(std::string_view job) {
  namespace fs = std::filesystem;
  if (job.empty()) return;
  const std::string prefix = fmt::format("{}{}", kSharedMemoryPrefix, job);
  std::error_code failed;
  for (fs::directory_iterator entry(kSharedMemoryFolder, failed), end;
       !failed && entry != end; entry.increment(failed)) {
    const fs::path path = entry->path();
    if (!path.filename().string().starts_with(prefix)) continue;
    std::error_code gone;
    fs::remove(path, gone);
  }
}

std::string tail_of(const std::filesystem::path& path, std::int64_t offset,
                    std::int64_t most) {
  std::ifstream file(path, std::ios::binary);
  file.seekg(0, std::ios::end);
  const std::int64_t size = file.tellg();
  const std::int64_t begin = std::max(offset, size - most);
  if (!file || begin >= size) return "";
  std::string text(static_cast<std::size_t>(size - begin), '\0');
  file.seekg(begin);
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<std::size_t>(file.gcount()));
  if (begin > offset) {
    const auto line = text.find('\n');
    if (line + 1 < text.size()) text.erase(0, line + 1);
  }
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

}  // namespace catena::launcher
