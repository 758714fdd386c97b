#include <gmock/gmock.h>

#include <cstdlib>
#include <numeric>
#include <string>
#include <thread>

#include "parallel/communicator.h"
#include "parallel/mpi/transport.h"
#include "tests/parallel/ranks.h"

/// Every rank that mpirun started runs all tests in the same order.

namespace catena::testing {
namespace {

using namespace std::chrono_literals;

int world_size() {
  const char* size = std::getenv("OMPI_COMM_WORLD_SIZE");
  return size == nullptr ? 1 : std::atoi(size);
}

RankRunner::Run runner(const mpi::Options& options) {
  return [options](int, const std::function<void(Transport&)>& work) {
    work(*mpi::connect(options));
  };
}

TEST(MpiTest, LongMessagesGoInPieces) {
  const auto transport = mpi::connect({.piece_bytes = 1000});
  Communicator all(*transport, 60s);
  for (const std::int64_t words : {0, 61, 62, 63, 124, 125, 126, 50000}) {
    std::vector<std::int64_t> x(static_cast<std::size_t>(words));
    if (all.rank() == 0) std::iota(x.begin(), x.end(), words);
    wait(all.broadcast({}, 0, x.data(), words * 8));
    for (std::int64_t i = 0; i < words; ++i) {
      ASSERT_EQ(x[static_cast<std::size_t>(i)], words + i);
    }
  }
}

TEST(MpiTest, NumbersOfMessagesMayComeAround) {
  const auto transport = mpi::connect({});
  Communicator all(*transport, 60s);
  for (std::int64_t i = 0; i < 3000; ++i) {
    std::int64_t x = all.rank() == 0 ? i : -1;
    wait(all.broadcast({}, 0, &x, sizeof x));
    ASSERT_EQ(x, i);
  }
}

TEST(MpiTest, MessagesMoveOnWhileARankComputes) {
  const auto transport = mpi::connect({});
  Communicator all(*transport, 60s);
  std::vector<double> x(1 << 22, all.rank());
  wait(all.barrier({}));
  const auto begin = std::chrono::steady_clock::now();
  const Pending sent = all.broadcast({}, 0, x.data(), x.size() * 8);
  if (all.rank() != 0) std::this_thread::sleep_for(4s);
  wait(sent);
  if (all.rank() == 0) {
    EXPECT_LT(std::chrono::steady_clock::now() - begin, 3s);
  }
  EXPECT_EQ(x.back(), 0);
  wait(all.barrier({}));
}

}  // namespace

std::vector<RankCase> rank_cases() {
  return {{{.name = "mpi",
            .run = runner({}),
            .no_faults = "MPI ends the whole job with the first rank that "
                         "gives up: see the tests mpi_*"},
           world_size()}};
}

}  // namespace catena::testing

int main(int argc, char** argv) {
  const catena::mpi::Runtime runtime;
  ::testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
