#include "tests/parallel/process_ranks.h"

#include <fcntl.h>
#include <gtest/gtest-spi.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <thread>

#include "parallel/tcp/store.h"

namespace catena::testing {
namespace {

using Clock = std::chrono::steady_clock;

constexpr const char* kAddress = "127.0.0.1";
constexpr std::chrono::seconds kPatience(30);
constexpr std::chrono::milliseconds kNap(1);

/// The port of rank 0's store, in memory that all processes share.
class SharedPort {
 public:
  SharedPort() {
    void* page = mmap(nullptr, sizeof(Port), PROT_READ | PROT_WRITE,
                      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) fail(ErrorKind::kIo, "no shared page");
    port_ = new (page) Port(0);
  }
  ~SharedPort() { munmap(port_, sizeof(Port)); }
  SharedPort(const SharedPort&) = delete;
  SharedPort& operator=(const SharedPort&) = delete;

  void set(int port) { port_->store(port); }
  [[nodiscard]] int wait() const {
    const auto until = Clock::now() + kPatience;
    while (port_->load() == 0) {
      if (Clock::now() > until) fail(ErrorKind::kTimeout, "no store");
      std::this_thread::sleep_for(kNap);
    }
    return port_->load();
  }

 private:
  using Port = std::atomic<int>;
  Port* port_;
};

/// What a child has to say, as bytes in a pipe: numbers and texts with their
/// lengths in front.
class Report {
 public:
  Report() = default;
  explicit Report(std::string bytes) : bytes_(std::move(bytes)) {}
  void put(std::int64_t number) {
    bytes_.append(reinterpret_cast<const char*>(&number), sizeof number);
  }
  void put(const std::string& text) {
    put(static_cast<std::int64_t>(text.size()));
    bytes_ += text;
  }
  [[nodiscard]] std::int64_t number() {
    std::int64_t result = 0;
    if (left() < sizeof result) return 0;
    std::memcpy(&result, bytes_.data() + at_, sizeof result);
    at_ += sizeof result;
    return result;
  }
  [[nodiscard]] std::string text() {
    const auto size = static_cast<std::size_t>(number());
    const std::string result = bytes_.substr(at_, size);
    at_ += result.size();
    return result;
  }
  [[nodiscard]] std::size_t left() const { return bytes_.size() - at_; }
  [[nodiscard]] const std::string& bytes() const { return bytes_; }

 private:
  std::string bytes_;
  std::size_t at_ = 0;
};

struct Plan {
  int size;
  const MakeTransport& make;
  const std::function<void(Transport&)>& work;
  std::string token;
  Clock::time_point begin;
};

/// Fills in what was thrown.
void note(RankEnd& end, const Plan& plan) {
  if (end.error) return;
  end.seconds =
      std::chrono::duration<double>(Clock::now() - plan.begin).count();
  try {
    throw;
  } catch (const Error& error) {
    end.error = error.kind();
    end.text = error.what();
  } catch (const std::exception& error) {
    end.error = ErrorKind::kInternal;
    end.text = error.what();
  }
}

void run_rank(int rank, const Plan& plan, SharedPort& port, RankEnd& end) {
  std::unique_ptr<tcp::StoreServer> server;
  try {
    if (rank == 0) {
      server = std::make_unique<tcp::StoreServer>(kAddress, 0,
                                                  tcp::Secret(plan.token));
      port.set(server->port());
    }
    tcp::StoreClient store(kAddress, static_cast<std::uint16_t>(port.wait()),
                           tcp::Secret(plan.token), kPatience);
    const auto transport = plan.make(rank, plan.size, store);
    try {
      plan.work(*transport);
    } catch (...) {
      note(end, plan);
      transport->abandon(end.text);
      throw;
    }
  } catch (...) {
    note(end, plan);
  }
}

[[noreturn]] void child(int rank, const Plan& plan, SharedPort& port,
                        int pipe) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  RankEnd end;
  ::testing::TestPartResultArray results;
  {
    ::testing::ScopedFakeTestPartResultReporter reporter(
        ::testing::ScopedFakeTestPartResultReporter::INTERCEPT_ALL_THREADS,
        &results);
    run_rank(rank, plan, port, end);
  }
  Report report;
  report.put(end.error ? 1 : 0);
  report.put(
      static_cast<std::int64_t>(end.error.value_or(ErrorKind::kInternal)));
  report.put(end.text);
  report.put(static_cast<std::int64_t>(end.seconds * 1e9));
  for (int i = 0; i < results.size(); ++i) {
    const auto& result = results.GetTestPartResult(i);
    if (!result.failed()) continue;
    report.put(result.file_name() == nullptr ? "?" : result.file_name());
    report.put(std::int64_t{result.line_number()});
    report.put(result.message());
  }
  std::size_t at = 0;
  while (at < report.bytes().size()) {
    const ssize_t written =
        write(pipe, report.bytes().data() + at, report.bytes().size() - at);
    if (written <= 0) _exit(3);
    at += static_cast<std::size_t>(written);
  }
  _exit(0);
}

/// A child as its parent sees it.
struct Process {
  pid_t id = -1;
  int pipe = -1;
  bool stopped = false, ended = false;
  int status = 0;
  std::string said;
};

void look_after(Process& process) {
  std::array<char, 4096> bytes;
  for (;;) {
    const ssize_t got = read(process.pipe, bytes.data(), bytes.size());
    if (got <= 0) break;
    process.said.append(bytes.data(), static_cast<std::size_t>(got));
  }
  int status = 0;
  if (process.ended ||
      waitpid(process.id, &status, WNOHANG | WUNTRACED) != process.id) {
    return;
  }
  process.stopped = WIFSTOPPED(status);
  process.ended = !process.stopped;
  process.status = status;
}

/// Returns when all have ended, or were killed.
void wait_for(std::vector<Process>& processes, Clock::time_point until) {
  for (;;) {
    bool running = false, left = false;
    for (Process& process : processes) {
      look_after(process);
      running = running || (!process.ended && !process.stopped);
      left = left || !process.ended;
    }
    if (!left) break;
    if (running && Clock::now() < until) {
      std::this_thread::sleep_for(kNap);
      continue;
    }
    for (std::size_t r = 0; r < processes.size(); ++r) {
      Process& process = processes[r];
      if (process.ended) continue;
      if (!process.stopped) {
        ADD_FAILURE() << "rank " << r << " hung and was killed";
      }
      kill(process.id, SIGKILL);
      waitpid(process.id, &process.status, 0);
      process.ended = true;
    }
  }
  // What they wrote before they ended.
  for (Process& process : processes) {
    look_after(process);
    close(process.pipe);
  }
}

RankEnd end_of(int rank, const Process& process) {
  RankEnd end;
  if (process.stopped || WIFSIGNALED(process.status)) {
    end.signal = process.stopped ? SIGSTOP : WTERMSIG(process.status);
    return end;
  }
  EXPECT_EQ(WEXITSTATUS(process.status), 0) << "rank " << rank;
  Report report(process.said);
  const bool threw = report.number() != 0;
  const auto kind = static_cast<ErrorKind>(report.number());
  end.text = report.text();
  end.seconds = static_cast<double>(report.number()) * 1e-9;
  if (threw) end.error = kind;
  while (report.left() > 0) {
    const std::string file = report.text();
    const int line = static_cast<int>(report.number());
    ADD_FAILURE_AT(file.c_str(), line)
        << "rank " << rank << ": " << report.text();
  }
  return end;
}

}  // namespace

std::vector<RankEnd> run_processes(int size, const MakeTransport& make,
                                   const std::function<void(Transport&)>& work,
                                   std::chrono::duration<double> limit) {
  const Plan plan{size, make, work, tcp::random_token(), Clock::now()};
  SharedPort port;
  std::vector<Process> processes(static_cast<std::size_t>(size));
  std::fflush(nullptr);
  for (int rank = 0; rank < size; ++rank) {
    std::array<int, 2> ends{};
    if (pipe2(ends.data(), O_CLOEXEC) != 0) fail(ErrorKind::kIo, "no pipe");
    const pid_t id = fork();
    if (id < 0) fail(ErrorKind::kIo, "no process");
    if (id == 0) child(rank, plan, port, ends[1]);
    close(ends[1]);
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
    processes[static_cast<std::size_t>(rank)].id = id;
    processes[static_cast<std::size_t>(rank)].pipe = ends[0];
  }
  wait_for(processes, plan.begin + std::chrono::ceil<Clock::duration>(limit));
  std::vector<RankEnd> result;
  for (int rank = 0; rank < size; ++rank) {
    result.push_back(end_of(rank, processes[static_cast<std::size_t>(rank)]));
  }
  return result;
}

RankRunner process_ranks(std::string name, MakeTransport make) {
  const auto run = [make = std::move(make)](
                       int size, const std::function<void(Transport&)>& work) {
    const std::vector<RankEnd> ends = run_processes(size, make, work);
    const RankEnd* first = nullptr;
    const auto repeats = [](const RankEnd& end) {
      return end.text.find("gave up: ") != std::string::npos;
    };
    for (const RankEnd& end : ends) {
      EXPECT_EQ(end.signal, 0) << "rank " << &end - ends.data();
      if (!end.error) continue;
      if (first == nullptr || std::pair(repeats(end), end.seconds) <
                                  std::pair(repeats(*first), first->seconds)) {
        first = &end;
      }
    }
    if (first != nullptr) throw Error(*first->error, first->text);
  };
  return {std::move(name), run};
}

}  // namespace catena::testing
