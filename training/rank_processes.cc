#include "training/rank_processes.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstring>
#include <optional>
#include <thread>
#include <vector>

#include "launcher/contract.h"
#include "parallel/shared_memory/transport.h"
#include "parallel/tcp/handshake.h"
#include "runtime/base/error.h"
#include "runtime/base/log.h"
#include "training/failure.h"

namespace catena {
namespace {

using Clock = std::chrono::steady_clock;
namespace fs = std::filesystem;

constexpr std::chrono::milliseconds kNap(10);

struct Failure {
  int rank = 0, code = 0;
  std::string text;
  /// It ended because another rank did.
  bool consequence = false;
};

/// One rank, as its parent sees it.
struct Process {
  pid_t pid = -1;
  int pipe = -1;  ///< what it says of its failure
  std::string said = {};
  std::optional<int> status = {};
};

// For the signal handler, which can know nothing else.
constexpr std::size_t kMost = 1024;
std::array<volatile pid_t, kMost> children{};
volatile std::sig_atomic_t child_count = 0;

void pass_on(int signal) {
  for (int i = 0; i < child_count; ++i) {
    if (children[static_cast<std::size_t>(i)] > 0) {
      ::kill(children[static_cast<std::size_t>(i)], signal);
    }
  }
}

void install_pass_on() {
  struct sigaction action {};
  action.sa_handler = pass_on;
  ::sigemptyset(&action.sa_mask);
  ::sigaction(SIGINT, &action, nullptr);
  ::sigaction(SIGTERM, &action, nullptr);
}

void say(int pipe, const std::string& text) {
  const char* data = text.data();
  std::size_t left = text.size();
  while (left > 0) {
    const ssize_t count = ::write(pipe, data, left);
    if (count <= 0) return;
    data += count;
    left -= static_cast<std::size_t>(count);
  }
}

/// The child's life. Returns its exit code.
int live(const Sibling& rank, int pipe, const RankWork& work) {
  try {
    return live_as_member([&] { return join(rank); }, work);
  } catch (...) {
    const Failed failed = explain(std::current_exception());
    log::progress("");
    log::to_file(log::Level::kError, failed.text);
    say(pipe, failed.text);
    return failed.code;
  }
}

class Parent {
 public:
  Parent(const RankProcesses& options, const RankWork& work)
      : options_(options),
        work_(work),
        token_(tcp::random_token()),
        meeting_(fs::temp_directory_path() / ("catena-" + token_)) {
    CATENA_CHECK(options.ranks >= 1 && options.ranks <= static_cast<int>(kMost),
                 "[ranks] {} processes", options.ranks);
  }
  ~Parent() {
    pass_on(SIGKILL);
    for (Process& process : processes_) {
      if (!process.status) ::waitpid(process.pid, nullptr, 0);
      ::close(process.pipe);
    }
    child_count = 0;
    shared_memory::sweep(token_);
    std::error_code ignored;
    fs::remove_all(meeting_, ignored);
  }
  Parent(const Parent&) = delete;
  Parent& operator=(const Parent&) = delete;

  int run() {
    fs::create_directories(meeting_);
    for (int rank = 0; rank < options_.ranks; ++rank) start(rank);
    install_pass_on();
    watch();
    std::signal(SIGINT, SIG_DFL);
    std::signal(SIGTERM, SIG_DFL);
    if (!first_) return stopped_code_;
    return report();
  }

 private:
  void start(int rank) {
    std::array<int, 2> pipe{};
    if (::pipe2(pipe.data(), O_CLOEXEC) != 0) {
      fail(ErrorKind::kIo, "no pipe for rank {}: {}", rank,
           std::strerror(errno));
    }
    const pid_t parent = ::getpid();
    const pid_t pid = ::fork();
    if (pid < 0) {
      fail(ErrorKind::kIo, "rank {} cannot be started: {}", rank,
           std::strerror(errno));
    }
    if (pid == 0) {
      // A group of its own: a terminal's Ctrl-C comes once, from the parent.
      ::setpgid(0, 0);
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      if (::getppid() != parent) ::_exit(kExitInternal);
      child_count = 0;
      const int code = live({.wire = options_.wire,
                             .rank = rank,
                             .ranks = options_.ranks,
                             .folder = meeting_,
                             .token = token_},
                            pipe[1], work_);
      std::fflush(nullptr);
      ::_exit(code);
    }
    ::close(pipe[1]);
    ::fcntl(pipe[0], F_SETFL, O_NONBLOCK);
    processes_.push_back({.pid = pid, .pipe = pipe[0]});
    children[static_cast<std::size_t>(rank)] = pid;
    child_count = rank + 1;
  }

  void watch() {
    std::size_t running = processes_.size();
    std::optional<Clock::time_point> since;
    while (running > 0) {
      for (std::size_t i = 0; i < processes_.size(); ++i) {
        Process& process = processes_[i];
        listen(process);
        int status = 0;
        if (process.status ||
            ::waitpid(process.pid, &status, WNOHANG) != process.pid) {
          continue;
        }
        listen(process);
        process.status = status;
        children[i] = 0;
        --running;
        ended(static_cast<int>(i), status);
        if (first_ && !since) since = Clock::now();
      }
      if (since && Clock::now() - *since > options_.patience) {
        pass_on(SIGKILL);
      }
      std::this_thread::sleep_for(kNap);
    }
  }

  static void listen(Process& process) {
    std::array<char, 4096> part;
    ssize_t count = 0;
    while ((count = ::read(process.pipe, part.data(), part.size())) > 0) {
      process.said.append(part.data(), static_cast<std::size_t>(count));
    }
  }

  void ended(int rank, int status) {
    const Process& process = processes_[static_cast<std::size_t>(rank)];
    Failure failure{.rank = rank, .text = process.said};
    if (WIFSIGNALED(status)) {
      failure.code = 128 + WTERMSIG(status);
      failure.text =
          fmt::format("was killed by signal {} ({})", WTERMSIG(status),
                      ::strsignal(WTERMSIG(status)));
    } else {
      failure.code = WEXITSTATUS(status);
      if (failure.code == 0 || failure.code == kExitPreempted) {
        stopped_code_ = std::max(stopped_code_, failure.code);
        return;
      }
      failure.consequence = is_consequence(process.said);
    }
    if (!first_ || (first_->consequence && !failure.consequence)) {
      std::swap(first_, noticed_);
      first_ = failure;
    }
    if (failure.consequence && !noticed_) noticed_ = failure;
  }

  int report() const {
    std::string text = fmt::format("rank {}: {}", first_->rank, first_->text);
    if (noticed_ && noticed_->rank != first_->rank) {
      text +=
          fmt::format("\nrank {} noticed: {}", noticed_->rank, noticed_->text);
    }
    log::error("{}", text);
    return first_->code;
  }

  RankProcesses options_;
  const RankWork& work_;
  std::string token_;
  fs::path meeting_;
  std::vector<Process> processes_;
  std::optional<Failure> first_, noticed_;
  int stopped_code_ = 0;
};

}  // namespace

int run_rank_processes(const RankProcesses& options, const RankWork& work) {
  return Parent(options, work).run();
}

}  // namespace catena
