#include <gmock/gmock.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <iterator>
#include <stdexcept>
#include <thread>

#include "parallel/communicator.h"
#include "parallel/gloo/transport.h"
#include "parallel/joined/transport.h"
#include "runtime/base/error.h"
#include "tests/parallel/collective_calls.h"
#include "tests/parallel/processes.h"
#include "tests/support/private_disk.h"

/// What communicator_test.cc cannot ask: real deaths, of processes, and what is
/// one node.

namespace catena::testing {
namespace {

using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using namespace std::chrono_literals;

constexpr Communicator::Deadline kLong(60), kShort(1);

/// Two ranks a node.
std::unique_ptr<Transport> make(int rank, int size, Store& store,
                                const std::string& token) {
  return joined::connect(rank, size, store,
                         {.token = token, .node = fmt::format("{}", rank / 2)});
}

class JoinedTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!gloo::available()) {
      GTEST_SKIP() << "built without Gloo (libgloo-dev)";
    }
  }

  static std::vector<Outcome> run(int size, const Processes::Work& work,
                                  const MakeTransport& make_one = make,
                                  int gone = -1) {
    Processes processes(size, work, make_one);
    std::vector<Outcome> ends = processes.wait_for_all(gone);
    EXPECT_THAT(processes.names(), IsEmpty());
    return ends;
  }
  static void expect_success(const std::vector<Outcome>& ends) {
    for (const Outcome& end : ends) EXPECT_FALSE(end.threw) << end.text;
  }

  /// The victim raises the signal before its fourth collective.
  static std::vector<Outcome> strike(int size, int victim, int signal,
                                     const Call& call,
                                     Communicator::Deadline deadline) {
    return run(
        size,
        [&](Transport& transport) {
          // All are there before a short deadline begins.
          wait(Communicator(transport, kLong).barrier({}));
          Communicator all(transport, deadline);
          std::vector<float> x(20000, 1);
          for (int round = 0;; ++round) {
            if (round == 3 && all.rank() == victim) raise(signal);
            call(all, x);
          }
        },
        make, victim);
  }
};

TEST_F(JoinedTest, ARankThatIsKilledIsNamedInBothNodes) {
  for (const auto& [name, call] : kCalls) {
    SCOPED_TRACE(name);
    const auto ends = strike(4, 3, SIGKILL, call, kLong);
    EXPECT_EQ(ends[3].signal, SIGKILL);
    for (const int r : {0, 1, 2}) {
      const Outcome& end = ends[static_cast<std::size_t>(r)];
      ASSERT_TRUE(end.threw);
      EXPECT_EQ(end.kind, ErrorKind::kCommunication) << end.text;
      EXPECT_THAT(end.text, HasSubstr("rank 3 has died"));
      EXPECT_LT(end.seconds, 20);
    }
  }
}

TEST_F(JoinedTest, ARankThatStandsStillIsNamedInBothNodes) {
  for (const auto& [name, call] : kCalls) {
    SCOPED_TRACE(name);
    // Beside rank 2 in one trial, and in the other alone in its node.
    for (const int size : {3, 4}) {
      const int victim = size - 1;
      const auto ends = strike(size, victim, SIGSTOP, call, kShort);
      for (int r = 0; r < victim; ++r) {
        const Outcome& end = ends[static_cast<std::size_t>(r)];
        ASSERT_TRUE(end.threw);
        // Another may wait for what the victim had no time to send.
        EXPECT_THAT(end.text, ContainsRegex(fmt::format(
                                  "s for rank ([0-9], )*{} in", victim)));
        EXPECT_THAT(end.text, HasSubstr(name));
        EXPECT_LT(end.seconds, 20);
      }
    }
  }
}

TEST_F(JoinedTest, ARankThatGivesUpIsNamedOnceWhicheverWayItIsHeard) {
  const auto ends = run(4, [](Transport& transport) {
    Communicator all(transport, kLong);
    if (all.rank() == 1) fail(ErrorKind::kData, "a bad shard");
    wait(all.barrier({}));
  });
  for (const std::size_t r : {0U, 2U, 3U}) {
    EXPECT_EQ(ends[r].text, "rank 1 gave up: a bad shard");
  }
}

TEST_F(JoinedTest, ADeathIsToldToThoseThatWaitForOthers) {
  // Rank 0 waits for 3 in the other node, 3 for 2 beside it, 2 for 1.
  const auto ends = run(
      4,
      [](Transport& transport) {
        const int me = transport.rank();
        Communicator all(transport, kLong);
        wait(all.barrier({}));
        if (me == 1) raise(SIGKILL);
        std::int64_t open = 0;
        char x = 0;
        transport.receive(me == 0 ? 3 : me - 1, 5, &x, 1, 0, open);
        while (open > 0) transport.progress();
      },
      make, 1);
  for (const std::size_t r : {0U, 2U, 3U}) {
    ASSERT_TRUE(ends[r].threw);
    EXPECT_THAT(ends[r].text, HasSubstr("rank 1 has died"));
    EXPECT_LT(ends[r].seconds, 20);
  }
}

TEST_F(JoinedTest, MemoryOfItsOwnIsSentBothWays) {
  expect_success(run(4, [](Transport& transport) {
    Communicator all(transport, kLong);
    constexpr std::size_t kBytes = 1 << 20;
    auto* const x = static_cast<char*>(transport.allocate(kBytes));
    for (int round = 0; round < 20; ++round) {
      const int root = round % all.size();
      std::memset(x, all.rank() == root ? round + 1 : 0, kBytes);
      wait(all.broadcast({}, root, x, kBytes));
      EXPECT_EQ(x[0], round + 1);
      EXPECT_EQ(std::memcmp(x, x + 1, kBytes - 1), 0);
    }
    transport.release(x, kBytes);
  }));
}

TEST_F(JoinedTest, TheDescriptionSaysWhichWayRowsGo) {
  const std::string gloo = "Gloo over TCP, 127.0.0.1";
  for (const auto& [size, said] :
       {std::pair{1, gloo},
        {2, std::string("shared memory")},
        {3, gloo + ", between 2 nodes of 1 to 2, shared memory inside"},
        {4, gloo + ", between 2 nodes of 2, shared memory inside"}}) {
    expect_success(run(size, [&, &said = said](Transport& transport) {
      EXPECT_EQ(transport.description(), said);
      EXPECT_EQ(transport.node(), transport.rank() / 2 * 2);
    }));
  }
}

/// Why this machine lets no process have mounts of its own; empty if it does.
/// Asked in a process for that alone, since this one keeps its mounts.
std::string why_no_mounts() {
  int ends[2];
  if (pipe(ends) != 0) throw std::runtime_error("pipe");
  const pid_t child = fork();
  if (child < 0) throw std::runtime_error("fork");
  if (child == 0) {
    const std::string why = keep_mounts_private();
    const bool said = write(ends[1], why.data(), why.size()) == std::ssize(why);
    _exit(said ? 0 : 1);
  }
  close(ends[1]);
  std::string why(1000, '\0');
  const ssize_t count = read(ends[0], why.data(), why.size());
  close(ends[0]);
  waitpid(child, nullptr, 0);
  why.resize(count < 0 ? 0 : static_cast<std::size_t>(count));
  return why;
}

/// Ranks 0 and 2 see this machine's /dev/shm, rank 1 what Hidden makes of it.
template <class Hidden, class... Args>
std::vector<Outcome> run_apart(Args... args) {
  Processes processes(
      3,
      [](Transport& transport) {
        EXPECT_THAT(std::string(transport.description()),
                    HasSubstr("between 2 nodes of 1 to 2"));
        Communicator all(transport, kLong);
        std::vector<float> x(20000, 1);
        for (const auto& call : kCalls) call.second(all, x);
      },
      [&](int rank, int size, Store& store, const std::string& token) {
        if (rank == 1) {
          EXPECT_EQ(keep_mounts_private(), "");
          // Until the process ends, by _exit().
          new Hidden("/dev/shm", args...);
        }
        return joined::connect(rank, size, store, {.token = token});
      });
  return processes.wait_for_all();
}

TEST_F(JoinedTest, RanksThatDoNotSeeOneMemoryGoOverGloo) {
  // Before there are ranks: they would wait for the one that may not.
  const std::string why = why_no_mounts();
  if (!why.empty()) GTEST_SKIP() << why;
  expect_success(run_apart<PrivateDisk>(std::int64_t{1} << 20));
  expect_success(run_apart<ReadOnlyFolder>());
}

/// Its rank dies as soon as it has told its neighbours of its memory.
class FatalStore final : public Store {
 public:
  explicit FatalStore(Store& store) : store_(store) {}
  void set(std::string_view key, std::string_view value) override {
    store_.set(key, value);
    if (key.find("/shared-memory/") != std::string_view::npos) raise(SIGKILL);
  }
  std::string get(std::string_view key,
                  std::chrono::duration<double> deadline) override {
    return store_.get(key, deadline);
  }

 private:
  Store& store_;
};

TEST_F(JoinedTest, ADeathWhileANodeJoinsIsHeardInTheOthers) {
  const auto ends = run(
      4, [](Transport&) {},
      [](int rank, int size, Store& store, const std::string& token) {
        FatalStore fatal(store);
        Store& own = rank == 2 ? fatal : store;
        return make(rank, size, own, token);
      },
      2);
  EXPECT_EQ(ends[2].signal, SIGKILL);
  for (const std::size_t r : {0U, 1U, 3U}) {
    ASSERT_TRUE(ends[r].threw);
    EXPECT_EQ(ends[r].kind, ErrorKind::kCommunication);
    // Who joins another run just then may have removed its name.
    EXPECT_THAT(ends[r].text,
                ContainsRegex("rank 2 has died while ranks joined|"
                              "cannot open the memory of rank 2"));
    EXPECT_LT(ends[r].seconds, 20);
  }
}

}  // namespace
}  // namespace catena::testing
