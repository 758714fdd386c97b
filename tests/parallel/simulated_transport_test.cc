#include <gtest/gtest.h>

#include <vector>

#include "parallel/communicator.h"
#include "parallel/local/transport.h"
#include "parallel/simulated/transport.h"

namespace catena {
namespace {

// 1 MB at 10 MB/s, twice, and 50 ms: never sooner, however fast the machine.
TEST(SimulatedTransportTest, MessagesTakeTheirTime) {
  constexpr std::int64_t kBytes = 1'000'000;
  local::run_ranks(2, [&](Transport& inner) {
    const auto slow = simulated::make_transport(
        inner, {.bytes_per_second = 1e7, .latency_seconds = 0.05});
    Communicator communicator(*slow, Communicator::Deadline(60));
    const auto peer = static_cast<std::size_t>(1 - slow->rank());
    std::vector<char> sent(kBytes, static_cast<char>('a' + slow->rank())),
        received(kBytes);
    std::vector<Communicator::Part> send(2), receive(2);
    send[peer] = {sent.data(), kBytes};
    receive[peer] = {received.data(), kBytes};
    wait(communicator.barrier({}));
    const double begin = slow->now();
    for (int i = 0; i < 2; ++i) {
      wait(communicator.all_to_all_v({.phase = Phase::kDispatch}, send,
                                     receive));
      EXPECT_GE(slow->now() - begin, (i + 1) * 0.15);
    }
    EXPECT_EQ(received,
              std::vector<char>(kBytes, static_cast<char>('a' + peer)));
    EXPECT_GE(slow->take_traffic()[Phase::kDispatch].exposed_seconds, 0.29);
  });
}

}  // namespace
}  // namespace catena
