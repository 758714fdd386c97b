#include "tests/parallel/processes.h"

#include <fcntl.h>
#include <gtest/gtest-spi.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <utility>

namespace catena::testing {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;
using Json = nlohmann::json;

std::string new_token() {
  static std::atomic<int> number = 0;
  return fmt::format("test{}x{}x{}", getpid(),
                     Clock::now().time_since_epoch().count(), ++number);
}

Json text_of(const ::testing::TestPartResultArray& results) {
  Json failures = Json::array();
  for (int i = 0; i < results.size(); ++i) {
    const ::testing::TestPartResult& part = results.GetTestPartResult(i);
    if (!part.failed()) continue;
    failures.push_back({{"file", part.file_name() ? part.file_name() : ""},
                        {"line", part.line_number()},
                        {"message", part.message()}});
  }
  return failures;
}

Outcome parsed(const std::string& text) {
  Outcome outcome;
  if (text.empty()) return outcome;
  const Json json = Json::parse(text);
  outcome.finished = true;
  for (const Json& failure : json["failures"]) {
    outcome.failures.push_back(
        {failure["file"], failure["message"], failure["line"]});
  }
  outcome.threw = json["threw"];
  outcome.first = outcome.threw && json["text"].get<std::string>().find(
                                       "gave up: ") == std::string::npos;
  outcome.seconds = json["seconds"];
  outcome.kind = static_cast<ErrorKind>(json["kind"].get<int>());
  outcome.text = json["text"];
  return outcome;
}

void write_all(int pipe, const std::string& text) {
  for (std::size_t done = 0; done < text.size();) {
    const ssize_t more = write(pipe, text.data() + done, text.size() - done);
    if (more <= 0) return;
    done += static_cast<std::size_t>(more);
  }
}

/// Returns whether it came to the end of the pipe.
bool read_all(int pipe, Clock::time_point until, std::string& text) {
  char buffer[4096];
  for (;;) {
    const auto left =
        std::chrono::ceil<std::chrono::milliseconds>(until - Clock::now());
    pollfd wait{.fd = pipe, .events = POLLIN, .revents = 0};
    const int ready = poll(
        &wait, 1, static_cast<int>(std::max<std::int64_t>(0, left.count())));
    if (ready < 0 && errno == EINTR) continue;
    if (ready <= 0) return false;
    const ssize_t bytes = read(pipe, buffer, sizeof buffer);
    if (bytes < 0 && errno == EINTR) continue;
    if (bytes <= 0) return true;
    text.append(buffer, static_cast<std::size_t>(bytes));
  }
}

/// Fills what there is to say of what is being thrown.
void note(Json& said, Clock::time_point begin) {
  if (said["threw"].get<bool>()) return;
  said["threw"] = true;
  said["seconds"] = std::chrono::duration<double>(Clock::now() - begin).count();
  try {
    throw;
  } catch (const Error& error) {
    said["kind"] = static_cast<int>(error.kind());
    said["text"] = error.what();
  } catch (const std::exception& error) {
    said["kind"] = static_cast<int>(ErrorKind::kInternal);
    said["text"] = error.what();
  }
}

}  // namespace

MakeTransport over_shared_memory(shared_memory::Options options) {
  return [options](int rank, int size, Store& store,
                   const std::string& token) mutable {
    options.token = token;
    return shared_memory::join(store, rank, size, options);
  };
}

Processes::Processes(int size, const Work& work, const MakeTransport& make)
    : token_(new_token()),
      folder_(fs::temp_directory_path() / ("catena-" + token_)),
      begin_(Clock::now()),
      store_(folder_),
      ranks_(static_cast<std::size_t>(size)) {
  std::fflush(nullptr);
  for (int rank = 0; rank < size; ++rank) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) throw std::runtime_error("pipe");
    const pid_t process = fork();
    if (process == 0) {
      close(ends[0]);
      be_rank(rank, ends[1], work, make);
    }
    close(ends[1]);
    ranks_[static_cast<std::size_t>(rank)] = {process, ends[0]};
    if (process < 0) throw std::runtime_error("fork");
  }
}

void Processes::be_rank(int rank, int pipe, const Work& work,
                        const MakeTransport& make) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  Json said = {{"threw", false}, {"kind", 0}, {"text", ""}, {"seconds", 0.0}};
  ::testing::TestPartResultArray results;
  {
    const ::testing::ScopedFakeTestPartResultReporter reporter(
        ::testing::ScopedFakeTestPartResultReporter::INTERCEPT_ALL_THREADS,
        &results);
    try {
      const auto transport = make(rank, size(), store_, token_);
      try {
        work(*transport);
      } catch (const std::exception& error) {
        note(said, begin_);
        transport->abandon(error.what());
        throw;
      }
    } catch (const std::exception&) {
      note(said, begin_);
    }
  }
  said["failures"] = text_of(results);
  write_all(pipe, said.dump());
  _exit(0);
}

Processes::~Processes() {
  for (int rank = 0; rank < size(); ++rank) {
    static_cast<void>(wait(rank, Seconds(0)));
  }
  shared_memory::sweep(token());
  std::error_code error;
  fs::remove_all(folder_, error);
}

void Processes::send_signal(int rank, int signal) const {
  kill(ranks_[static_cast<std::size_t>(rank)].process, signal);
}

Outcome Processes::wait(int rank, Seconds deadline) {
  Rank& which = ranks_[static_cast<std::size_t>(rank)];
  if (which.process < 0) return {};
  const auto until =
      Clock::now() + std::chrono::duration_cast<Clock::duration>(deadline);
  std::string text;
  const bool ended = read_all(which.pipe, until, text);
  if (!ended) send_signal(rank, SIGKILL);
  int status = 0;
  while (waitpid(which.process, &status, 0) < 0 && errno == EINTR) {
  }
  close(which.pipe);
  which = {};
  Outcome outcome = parsed(ended ? text : "");
  outcome.timed_out = !ended;
  outcome.signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
  return outcome;
}

std::vector<Outcome> Processes::wait_for_all(int gone) {
  std::vector<Outcome> outcomes(ranks_.size());
  for (int rank = 0; rank < size(); ++rank) {
    if (rank == gone) continue;
    const Outcome& outcome = outcomes[static_cast<std::size_t>(rank)] =
        wait(rank);
    for (const Outcome::Failure& failure : outcome.failures) {
      ADD_FAILURE_AT(failure.file.c_str(), failure.line)
          << "rank " << rank << ": " << failure.message;
    }
    if (!outcome.finished) {
      ADD_FAILURE() << "rank " << rank << " of " << size()
                    << (outcome.timed_out ? " was killed after a minute"
                                          : " ended by signal ")
                    << outcome.signal;
    }
  }
  if (gone >= 0) {
    send_signal(gone, SIGKILL);
    outcomes[static_cast<std::size_t>(gone)] = wait(gone);
  }
  return outcomes;
}

void Processes::meet() {
  for (int rank = 0; rank < size(); ++rank) {
    static_cast<void>(store_.get(fmt::format("there/{}", rank), Seconds(60)));
  }
}

std::vector<std::string> Processes::names() const {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator("/dev/shm")) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with("catena-" + token() + "-")) names.push_back(name);
  }
  return names;
}

RankRunner process_ranks(std::string name, MakeTransport make) {
  const auto run = [make = std::move(make)](int size,
                                            const Processes::Work& work) {
    Processes processes(size, work, make);
    const std::vector<Outcome> outcomes = processes.wait_for_all();
    EXPECT_TRUE(processes.names().empty()) << "names are left in /dev/shm";
    const Outcome* thrown = nullptr;
    for (const Outcome& outcome : outcomes) {
      if (!outcome.threw) continue;
      if (thrown == nullptr || std::pair(!outcome.first, outcome.seconds) <
                                   std::pair(!thrown->first, thrown->seconds)) {
        thrown = &outcome;
      }
    }
    if (thrown != nullptr) throw Error(thrown->kind, thrown->text);
  };
  return {std::move(name), run};
}

}  // namespace catena::testing
