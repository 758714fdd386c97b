#include "runtime/cpu/thread_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <ctime>
#include <memory>
#include <stdexcept>
#include <thread>
#include <vector>

#include "runtime/base/error.h"

namespace catena::cpu {
namespace {

TEST(ThreadPoolTest, RunsEveryPieceOnce) {
  for (const int threads : {1, 2, 3, 8}) {
    ThreadPool pool(threads);
    ASSERT_EQ(pool.threads(), threads);
    for (const int count : {0, 1, 2, 7, 1000}) {
      std::vector<int> seen(static_cast<std::size_t>(count));
      pool.run(count, [&](std::int64_t i, int worker) {
        EXPECT_GE(worker, 0);
        EXPECT_LT(worker, threads);
        ++seen[static_cast<std::size_t>(i)];
      });
      EXPECT_EQ(seen, std::vector<int>(seen.size(), 1)) << threads;
    }
  }
}

TEST(ThreadPoolTest, ResultsOfOneRunAreSeenByTheNext) {
  ThreadPool pool(4);
  std::vector<std::int64_t> values(64, 0);
  for (int round = 0; round < 2000; ++round) {
    pool.run(64, [&](std::int64_t i, int) {
      // Each piece reads what another wrote in the round before.
      const auto at = static_cast<std::size_t>((i + round) % 64);
      values[at] += 1;
    });
  }
  EXPECT_EQ(values, std::vector<std::int64_t>(64, 2000));
}

TEST(ThreadPoolTest, EveryWorkerTakesPart) {
  ThreadPool pool(2);
  std::atomic<int> arrived = 0;
  const auto deadline =
      std::chrono::steady_clock::now() + std::chrono::seconds(30);
  pool.run(2, [&](std::int64_t, int) {
    ++arrived;
    while (arrived < 2 && std::chrono::steady_clock::now() < deadline) {
      std::this_thread::yield();
    }
  });
  EXPECT_EQ(arrived, 2);
}

TEST(ThreadPoolTest, RethrowsAndStaysUsable) {
  for (const int threads : {1, 3}) {
    ThreadPool pool(threads);
    for (int round = 0; round < 50; ++round) {
      std::atomic<int> begun = 0;
      EXPECT_THROW(pool.run(10000,
                            [&](std::int64_t i, int) {
                              ++begun;
                              if (i == 3) throw std::runtime_error("piece 3");
                            }),
                   std::runtime_error);
      EXPECT_GE(begun, 4);
      std::atomic<int> sum = 0;
      pool.run(10, [&](std::int64_t i, int) { sum += static_cast<int>(i); });
      EXPECT_EQ(sum, 45);
    }
  }
}

TEST(ThreadPoolTest, PoolsShareCoresWithoutDeadlock) {
  std::vector<std::thread> owners;
  std::atomic<std::int64_t> total = 0;
  for (int owner = 0; owner < 4; ++owner) {
    owners.emplace_back([&] {
      ThreadPool pool(3);
      for (int round = 0; round < 500; ++round) {
        pool.run(5, [&](std::int64_t i, int) { total += i; });
      }
    });
  }
  for (std::thread& owner : owners) owner.join();
  EXPECT_EQ(total, 4 * 500 * 10);
}

TEST(ThreadPoolTest, IdleWorkersSleep) {
  ThreadPool pool(4);
  pool.run(100, [](std::int64_t, int) {});
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  const std::clock_t before = std::clock();
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  const double seconds =
      static_cast<double>(std::clock() - before) / CLOCKS_PER_SEC;
  EXPECT_LT(seconds, 0.1);
}

class Turns : public Background {
 public:
  void advance() override {
    EXPECT_EQ(std::this_thread::get_id(), owner);
    if (++count == fails_at) throw std::runtime_error("the wire broke");
  }
  const std::thread::id owner = std::this_thread::get_id();
  int count = 0, fails_at = 0;
};

TEST(ThreadPoolTest, TheCallingThreadHasTurnsBetweenPieces) {
  const auto piece = [](std::int64_t, int) {
    std::this_thread::sleep_for(std::chrono::microseconds(300));
  };
  for (const int threads : {1, 4}) {
    ThreadPool pool(threads);
    Turns turns;
    pool.set_background(&turns);
    for (int round = 0; round < 5; ++round) pool.run(4 * threads, piece);
    EXPECT_GE(turns.count, 5);
    EXPECT_LE(turns.count, 5 * 4 * threads);

    turns.fails_at = turns.count + 1;
    try {
      pool.run(100, piece);
      FAIL() << "what a turn throws was lost";
    } catch (const std::runtime_error& error) {
      EXPECT_STREQ(error.what(), "the wire broke");
    }
    pool.set_background(nullptr);
    const int before = turns.count;
    pool.run(4 * threads, piece);
    EXPECT_EQ(turns.count, before);
  }
}

TEST(ThreadPoolTest, ZeroMeansAllCores) {
  EXPECT_GE(ThreadPool(0).threads(), 1);
  EXPECT_THROW(ThreadPool(-1), Error);
}

}  // namespace
}  // namespace catena::cpu
