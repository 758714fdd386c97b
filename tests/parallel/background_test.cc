// What is under way between ranks moves on while kernels run.

#include <gtest/gtest.h>

#include <numeric>

#include "parallel/local/transport.h"
#include "parallel/mesh.h"

namespace catena {
namespace {

using std::chrono::steady_clock;

class BackgroundTest : public testing::TestWithParam<int> {};

TEST_P(BackgroundTest, ExchangesEndWhileKernelsRun) {
  const int size = GetParam();
  local::run_ranks(size, [&](Transport& transport) {
    const auto backend = make_cpu_backend(1);
    Ranks ranks(transport, *backend, make_mesh(size, size, 2 * size),
                Placement::contiguous(2 * size, size),
                Communicator::Deadline(60));
    const auto mine = static_cast<std::size_t>(ranks.rank());

    // Uneven: the last rank owns nothing, where there are others.
    std::vector<std::int64_t> counts(static_cast<std::size_t>(size));
    std::iota(counts.rbegin(), counts.rend(), size == 1 ? 1 : 0);
    for (std::int64_t& count : counts) count *= 10000;
    std::vector<double> x(
        std::accumulate(counts.begin(), counts.end(), std::size_t{0}),
        static_cast<double>(mine + 1));
    std::vector<std::int64_t> from(static_cast<std::size_t>(size), -1),
        to(from);
    std::vector<Communicator::Part> send, receive;
    for (std::size_t r = 0; r < from.size(); ++r) {
      to[r] = static_cast<std::int64_t>(100 * mine + r);
      send.push_back({&to[r], sizeof to[r]});
      receive.push_back({&from[r], sizeof from[r]});
    }
    const Pending sum = ranks.world().reduce_scatter(
        {.phase = Phase::kGradients},
        {x.data(), DType::kFloat64, {static_cast<std::int64_t>(x.size())}},
        counts);
    const Pending rows =
        ranks.expert().all_to_all_v({.phase = Phase::kDispatch}, send, receive);

    const Tensor work(*backend, DType::kFloat32, {1 << 20});
    const auto until = steady_clock::now() + std::chrono::seconds(60);
    while ((ranks.world().busy() || ranks.expert().busy()) &&
           steady_clock::now() < until) {
      backend->kernels()(Fill{.x = work.view(), .value = 1});
    }
    ASSERT_FALSE(ranks.world().busy() || ranks.expert().busy());
    for (std::size_t r = 0; r < from.size(); ++r) {
      EXPECT_EQ(from[r], static_cast<std::int64_t>(100 * r + mine));
    }
    const std::int64_t begin = std::accumulate(
        counts.begin(), counts.begin() + ranks.rank(), std::int64_t{0});
    for (std::int64_t i = 0; i < counts[mine]; ++i) {
      ASSERT_EQ(x[static_cast<std::size_t>(begin + i)], size * (size + 1) / 2);
    }

    EXPECT_TRUE(sum.ready());
    EXPECT_TRUE(rows.ready());
    const Traffic traffic = ranks.take_traffic();
    for (const Phase phase : {Phase::kGradients, Phase::kDispatch}) {
      EXPECT_EQ(traffic[phase].collectives, 1);
      EXPECT_EQ(traffic[phase].exposed_seconds, 0);
      EXPECT_GT(traffic[phase].overlapped_seconds, 0);
    }
    wait(ranks.world().barrier({}));
  });
}

INSTANTIATE_TEST_SUITE_P(Ranks, BackgroundTest,
                         testing::Values(1, 2, 3, 4, 7, 8));

TEST(BackgroundTest, ALostRankEndsTheKernelThatRuns) {
  try {
    local::run_ranks(2, [&](Transport& transport) {
      const auto backend = make_cpu_backend(1);
      Ranks ranks(transport, *backend, make_mesh(2, 2, 2),
                  Placement::contiguous(2, 2), Communicator::Deadline(60));
      if (ranks.rank() == 1) fail(ErrorKind::kIo, "the disk is full");
      (void)ranks.world().barrier({});
      const Tensor work(*backend, DType::kFloat32, {1 << 20});
      const auto until = steady_clock::now() + std::chrono::seconds(60);
      while (steady_clock::now() < until) {
        backend->kernels()(Fill{.x = work.view(), .value = 1});
      }
      ADD_FAILURE() << "kernels went on";
    });
    FAIL() << "nothing was thrown";
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(), "the disk is full");
  }
}

}  // namespace
}  // namespace catena
