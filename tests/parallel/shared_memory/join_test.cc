#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <fstream>
#include <random>
#include <thread>

#include "parallel/communicator.h"
#include "parallel/shared_memory/name.h"
#include "parallel/shared_memory/transport.h"
#include "tests/parallel/processes.h"
#include "tests/support/private_disk.h"

namespace catena::testing {
namespace {

using ::testing::Each;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr Communicator::Deadline kLong(60), kSoon(10);

TEST(SharedMemoryJoinTest, NothingHasANameOnceRanksHaveJoined) {
  Processes processes(3, [&](Transport& transport) {
    static_cast<void>(transport.allocate(100000));
    processes.store().set(fmt::format("there/{}", transport.rank()), "");
    for (;;) pause();
  });
  processes.meet();
  EXPECT_THAT(processes.names(), IsEmpty());
  for (int rank = 0; rank < 3; ++rank) processes.send_signal(rank, SIGKILL);
  for (int rank = 0; rank < 3; ++rank) {
    EXPECT_EQ(processes.wait(rank).signal, SIGKILL);
  }
  EXPECT_THAT(shared_memory::sweep(processes.token()), IsEmpty());
}

TEST(SharedMemoryJoinTest, AKillWhileRanksJoinLeavesNothingAfterASweep) {
  std::mt19937 random(3);
  int swept = 0, died = 0;
  for (int i = 0; i < 40; ++i) {
    Processes processes(
        3, [](Transport&) {},
        over_shared_memory({.deadline = Communicator::Deadline(0.2)}));
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 6000));
    // One, or all at once, as by the kernel that ends a control group.
    const bool all = i % 2 == 0;
    const int gone = static_cast<int>(random() % 3);
    for (int rank = 0; rank < 3; ++rank) {
      if (all || rank == gone) processes.send_signal(rank, SIGKILL);
    }
    for (int rank = 0; rank < 3; ++rank) {
      const Outcome outcome = processes.wait(rank);
      EXPECT_FALSE(outcome.timed_out);
      died += outcome.text.find("has died while") != std::string::npos ? 1 : 0;
    }
    swept += static_cast<int>(shared_memory::sweep(processes.token()).size());
    EXPECT_THAT(processes.names(), IsEmpty());
  }
  RecordProperty("swept", swept);
  RecordProperty("died_while_joining", died);
}

void expect_does_not_fit(const std::function<void()>& work) {
  try {
    work();
    ADD_FAILURE() << "it fits";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kDoesNotFit) << error.what();
    EXPECT_THAT(error.what(), HasSubstr("--shm-size"));
  }
}

TEST(SharedMemoryJoinTest, AFullDiskIsAnErrorAndNoSignal) {
  constexpr std::size_t kMega = std::size_t{1} << 20;
  Processes processes(1, [&](Transport&) {
    FileStore& store = processes.store();
    const std::string refusal = keep_mounts_private();
    store.set("refusal", refusal);
    if (!refusal.empty()) return;
    PrivateDisk disk("/dev/shm", 4 * kMega);
    const auto transport = shared_memory::join(store, 0, 1, {.token = "a"});
    std::memset(transport->allocate(kMega), 1, kMega);
    expect_does_not_fit(
        [&] { static_cast<void>(transport->allocate(3 * kMega)); });
    std::memset(transport->allocate(kMega), 1, kMega);
    std::ofstream("/dev/shm/another") << std::string(3 * kMega / 2, 'x');
    expect_does_not_fit([&] { static_cast<void>(transport->allocate(kMega)); });
    disk.resize(static_cast<std::int64_t>(5 * kMega));
    std::memset(transport->allocate(kMega), 1, kMega);
    std::ofstream("/dev/shm/more") << std::string(kMega, 'x');
    expect_does_not_fit([&] {
      static_cast<void>(shared_memory::join(store, 0, 1, {.token = "b"}));
    });
    EXPECT_THAT(store.get("b/shared-memory/0", kSoon), HasSubstr("do not fit"));
    EXPECT_THAT(shared_memory::sweep("b"), IsEmpty());
  });
  const Outcome outcome = processes.wait_for_all().front();
  EXPECT_FALSE(outcome.threw) << outcome.text;
  const std::string refusal = processes.store().get("refusal", kSoon);
  if (!refusal.empty()) GTEST_SKIP() << refusal;
}

/// Joins as ranks `members` of `size`, each on a thread, and returns what each
/// says: "" or an error.
std::vector<std::string> join_threads(
    int size, const std::vector<int>& members, const std::string& token,
    const std::function<void(Transport&)>& work) {
  const std::filesystem::path folder =
      std::filesystem::temp_directory_path() / ("catena-" + token);
  FileStore store(folder);
  std::vector<std::string> said(members.size());
  {
    std::vector<std::jthread> threads;
    for (std::size_t i = 0; i < members.size(); ++i) {
      threads.emplace_back([&, i] {
        try {
          const auto transport = shared_memory::join(
              store, members[i], size, {.token = token, .members = members});
          work(*transport);
        } catch (const Error& error) {
          said[i] = error.what();
        }
      });
    }
  }
  std::filesystem::remove_all(folder);
  return said;
}

TEST(SharedMemoryJoinTest, WhoCannotJoinTellsTheOthersAtOnce) {
  const std::string token = fmt::format("taken{}", getpid());
  const std::string name = fmt::format("/catena-{}-1", token);
  const int held = shared_memory::make_name(name);
  ASSERT_GE(held, 0);
  const auto said = join_threads(3, {0, 1, 2}, token, [](Transport&) {});
  EXPECT_THAT(said[1], HasSubstr(name + " cannot be made: File exists"));
  for (const std::string& text : {said[0], said[2]}) {
    EXPECT_THAT(text, HasSubstr("rank 1 could not join: [shared memory]"));
  }
  EXPECT_THAT(shared_memory::sweep(token),
              ::testing::ElementsAre(name.substr(1)));
  EXPECT_THAT(shared_memory::sweep(token), IsEmpty());
  close(held);
}

// As when a launcher and its ranks are killed while ranks meet.
TEST(SharedMemoryJoinTest, WhoJoinsSweepsWhatTheDeadOfAnyRunHaveLeft) {
  const auto name_of = [](const char* what) {
    return fmt::format("/catena-{}{}-0", what, getpid());
  };
  const std::string dead = name_of("dead"), alive = name_of("alive");
  const auto is_there = [](const std::string& name) {
    return std::filesystem::exists("/dev/shm" + name);
  };
  const pid_t child = fork();
  if (child == 0) {
    if (shared_memory::make_name(dead) >= 0 && is_there(dead)) raise(SIGKILL);
    _exit(1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFSIGNALED(status)) << dead << " was not made";
  const int held = shared_memory::make_name(alive);
  ASSERT_GE(held, 0);
  const auto said = join_threads(3, {0, 1, 2}, fmt::format("new{}", getpid()),
                                 [](Transport&) {});
  EXPECT_THAT(said, Each(IsEmpty()));
  EXPECT_FALSE(is_there(dead));
  EXPECT_TRUE(is_there(alive));
  close(held);
  shared_memory::sweep_abandoned("other");
  EXPECT_FALSE(is_there(alive));
}

TEST(SharedMemoryJoinTest, RanksOfANodeAreNamedAsInTheWorld) {
  const std::string token = fmt::format("node{}", getpid());
  const auto said = join_threads(5, {1, 4}, token, [](Transport& transport) {
    Communicator node(transport, {1, 4}, kLong);
    double x = transport.rank();
    wait(node.all_reduce({}, {&x, DType::kFloat64, {1}}));
    EXPECT_EQ(x, 5);
    std::int64_t open = 0;
    if (transport.rank() == 4) transport.receive(2, 0, &x, 8, 0, open);
    wait(node.barrier({}));
  });
  EXPECT_THAT(said[1], HasSubstr("rank 2 to rank 4, which is on another node"));
  EXPECT_THAT(said[0], HasSubstr("rank 4 has ended"));
}

}  // namespace
}  // namespace catena::testing
