#include <gmock/gmock.h>

#include <csignal>
#include <random>
#include <thread>

#include "parallel/communicator.h"
#include "tests/parallel/collective_calls.h"
#include "tests/parallel/processes.h"

namespace catena::testing {
namespace {

using Clock = std::chrono::steady_clock;
using ::testing::AnyOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr Communicator::Deadline kLong(60), kSoon(10);

/// Does it again and again.
void repeat(Communicator& all, const Call& call) {
  std::vector<float> x(20000, 1);
  for (;;) call(all, x);
}

/// The ranks but `gone` have ended soon, since it has died in `collective`.
void expect_named(Processes& processes, int gone,
                  const std::string& collective) {
  const auto begin = Clock::now();
  const std::vector<Outcome> outcomes = processes.wait_for_all(gone);
  EXPECT_LT(Clock::now() - begin, kSoon);
  int first = 0;
  for (int rank = 0; rank < processes.size(); ++rank) {
    const Outcome& outcome = outcomes[static_cast<std::size_t>(rank)];
    if (rank == gone) {
      EXPECT_EQ(outcome.signal, SIGKILL);
      continue;
    }
    first += outcome.first ? 1 : 0;
    EXPECT_EQ(outcome.kind, ErrorKind::kCommunication) << outcome.text;
    EXPECT_THAT(outcome.text, HasSubstr(fmt::format("rank {} has died", gone)));
    EXPECT_THAT(outcome.text, HasSubstr(collective));
  }
  EXPECT_GE(first, 1);  // two may notice it at once
  EXPECT_THAT(processes.names(), IsEmpty());
}

TEST(SharedMemoryKillTest, TwoProcessesExchangeUntilOneIsKilled) {
  Processes processes(2, [](Transport& transport) {
    Communicator all(transport, kLong);
    const int me = all.rank(), other = 1 - me;
    for (int round = 0;; ++round) {
      const std::vector<int> out(1000, 10 * round + me);
      std::vector<int> in(1000);
      std::vector<Communicator::Part> send(2), receive(2);
      send[static_cast<std::size_t>(other)] = {const_cast<int*>(out.data()),
                                               4000};
      receive[static_cast<std::size_t>(other)] = {in.data(), 4000};
      wait(all.all_to_all_v({}, send, receive));
      EXPECT_EQ(in, std::vector<int>(1000, 10 * round + other));
      if (round == 10 && me == 1) raise(SIGKILL);
    }
  });
  expect_named(processes, 1, "all_to_all_v");
}

TEST(SharedMemoryKillTest, AKilledRankIsNamedInEveryCollective) {
  for (const auto& [name, call] : kCalls) {
    SCOPED_TRACE(name);
    Processes processes(4, [&, &call = call](Transport& transport) {
      Communicator all(transport, kLong);
      std::vector<float> x(20000, 1);
      for (int round = 0;; ++round) {
        if (round == 3 && all.rank() == 3) raise(SIGKILL);
        call(all, x);
      }
    });
    expect_named(processes, 3, whole_name(name));
  }
}

TEST(SharedMemoryKillTest, AKillAtAnyMomentEndsTheOthers) {
  std::mt19937 random(1);
  for (int i = 0; i < 20; ++i) {
    const auto& [name, call] = kCalls[i % 4];
    Processes processes(3, [&, &call = call](Transport& transport) {
      FileStore& store = processes.store();
      Communicator all(transport, kLong);
      store.set(fmt::format("there/{}", all.rank()), "");
      repeat(all, call);
    });
    processes.meet();
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 20000));
    const int gone = static_cast<int>(random() % 3);
    processes.send_signal(gone, SIGKILL);
    expect_named(processes, gone, whole_name(name));
  }
}

TEST(SharedMemoryKillTest, AStoppedRankEndsTheOthersAtTheDeadline) {
  std::mt19937 random(2);
  for (const auto& [name, call] : kCalls) {
    SCOPED_TRACE(name);
    Processes processes(3, [&, &call = call](Transport& transport) {
      Communicator all(transport, Communicator::Deadline(0.5));
      processes.store().set(fmt::format("there/{}", all.rank()), "");
      repeat(all, call);
    });
    processes.meet();
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 20000));
    processes.send_signal(2, SIGSTOP);
    const auto begin = Clock::now();
    const Outcome outcomes[] = {processes.wait(0), processes.wait(1)};
    EXPECT_LT(Clock::now() - begin, kSoon);
    for (const Outcome& outcome : outcomes) {
      EXPECT_TRUE(outcome.threw);
      // Both may come to the deadline at once.
      if (outcome.kind != ErrorKind::kTimeout) {
        EXPECT_FALSE(outcome.first);
        EXPECT_EQ(outcome.kind, ErrorKind::kCommunication);
      }
      EXPECT_THAT(outcome.text, HasSubstr(whole_name(name)));
      EXPECT_THAT(outcome.text,
                  AnyOf(HasSubstr("s for rank 2"), HasSubstr("s for rank 0, 2"),
                        HasSubstr("s for rank 1, 2")));
    }
    EXPECT_THAT(processes.names(), IsEmpty());
  }
}

}  // namespace
}  // namespace catena::testing
