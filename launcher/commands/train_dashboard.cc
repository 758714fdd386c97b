#include "launcher/commands/train_dashboard.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>

#include "launcher/contract.h"
#include "runtime/base/error.h"

namespace catena::launcher {
namespace {

constexpr const char* kPortVariable = "CATENA_DASHBOARD_PORT";
constexpr const char* kAddressVariable = "CATENA_DASHBOARD_ADDRESS";

/// null where it is empty, too.
const char* variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr || *value == '\0' ? nullptr : value;
}

/// The path of the line that says the run; "" where the trainer ended without.
std::string hear_run(std::FILE* pipe) {
  const std::string_view prefix = kSaidRun;
  std::array<char, 8192> text;
  while (std::fgets(text.data(), text.size(), pipe) != nullptr) {
    std::string_view line = text.data();
    if (!line.starts_with(prefix) || !line.ends_with('\n')) continue;
    line.remove_prefix(prefix.size());
    line.remove_suffix(1);
    return std::string(line);
  }
  return {};
}

/// Reads on, so that the pipe is never full, until no process holds its other
/// end.
void wait_for_the_end(int pipe) {
  std::array<char, 4096> piece;
  for (;;) {
    const ssize_t count = ::read(pipe, piece.data(), piece.size());
    if (count == 0 || (count < 0 && errno != EINTR)) return;
  }
}

/// Signals of a terminal are for the trainer, which may save before it ends.
[[noreturn]] void serve(int descriptor, const MonitorPlace& place) {
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE}) {
    ::signal(signal, SIG_IGN);
  }
  std::FILE* pipe = ::fdopen(descriptor, "r");
  const std::string run = pipe == nullptr ? "" : hear_run(pipe);
  if (run.empty()) ::_exit(kExitSuccess);
  try {
    const Monitor monitor(run, place);
    fmt::print(stderr, "{}\n", monitor.announcement());
    wait_for_the_end(descriptor);
  } catch (const std::exception& problem) {
    fmt::print(stderr, "catena: {}\n", problem.what());
    wait_for_the_end(descriptor);
  }
  ::_exit(kExitSuccess);
}

}  // namespace

std::optional<MonitorPlace> dashboard_place(
    std::span<const std::string> arguments) {
  const std::string_view flag = kDashboardFlag;
  for (const std::string_view word : arguments) {
    if (!word.starts_with(flag)) continue;
    const std::string_view rest = word.substr(flag.size());
    if (rest.starts_with('=')) {
      return parse_place(rest.substr(1), kDashboardFlag);
    }
    if (!rest.empty()) continue;
    MonitorPlace place;
    if (const char* port = variable(kPortVariable)) {
      place = parse_place(port, kPortVariable);
    }
    if (const char* address = variable(kAddressVariable)) {
      place.address = address;
    }
    return place;
  }
  return {};
}

void serve_beside(const MonitorPlace& place) {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) {
    fail(ErrorKind::kIo, "dashboard: no pipe: {}", std::strerror(errno));
  }
  const pid_t child = ::fork();
  if (child < 0) {
    fail(ErrorKind::kIo, "dashboard: no process: {}", std::strerror(errno));
  }
  if (child == 0) {
    // Its child is none that the trainer could wait for.
    ::close(ends[1]);
    if (::fork() == 0) serve(ends[0], place);
    ::_exit(kExitSuccess);
  }
  ::close(ends[0]);
  ::waitpid(child, nullptr, 0);
  ::fcntl(ends[1], F_SETFD, 0);
  ::setenv(kControlVariable, fmt::format("{}", ends[1]).c_str(), 1);
}

}  // namespace catena::launcher
