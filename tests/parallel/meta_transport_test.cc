#include <gtest/gtest.h>

#include <numeric>

#include "parallel/mesh.h"
#include "parallel/meta/transport.h"

namespace catena {
namespace {

using Parts = std::vector<Communicator::Part>;

/// Rank 0 of 4, two a node: 10 MB/s and 1 ms a message inside, 1 MB/s and no
/// more across, which comes 5 ms later.
class TimedMetaTest : public testing::Test {
 protected:
  explicit TimedMetaTest(bool takes_core = false)
      : transport_(make_meta_transport(
            0, 4,
            {.ranks_per_node = 2,
             .inside = {.bytes_per_second = 1e7,
                        .message_seconds = 1e-3,
                        .takes_core = takes_core},
             .across = {.bytes_per_second = 1e6, .latency_seconds = 5e-3},
             .computed = [this] { return computed_; }})),
        communicator_(*transport_, Communicator::Deadline(1e9)) {}

  /// Bytes to and from ranks 1, 2, 3.
  Pending exchange(std::int64_t one, std::int64_t two, std::int64_t three) {
    const Parts parts{
        {nullptr, 0}, {nullptr, one}, {nullptr, two}, {nullptr, three}};
    return communicator_.all_to_all_v({.phase = Phase::kDispatch}, parts,
                                      parts);
  }
  PhaseTraffic traffic() {
    return transport_->take_traffic()[Phase::kDispatch];
  }

  double computed_ = 0;
  std::unique_ptr<Transport> transport_;
  Communicator communicator_;
};

TEST_F(TimedMetaTest, AMessageTakesItsBytesAndItsLatency) {
  wait(exchange(10'000, 0, 0));  // two empty ones across: 5 ms
  EXPECT_NEAR(transport_->now(), 5e-3, 1e-12);
  wait(exchange(0, 30'000, 0));
  EXPECT_NEAR(transport_->now(), 5e-3 + 35e-3, 1e-12);
  const PhaseTraffic found = traffic();
  EXPECT_NEAR(found.exposed_seconds, 40e-3, 1e-12);
  EXPECT_EQ(found.overlapped_seconds, 0);
  EXPECT_EQ(found.sent_bytes, 40'000);
}

TEST_F(TimedMetaTest, MessagesOfOneWayQueueAndTheTwoWaysDoNot) {
  wait(exchange(100'000, 20'000, 10'000));  // 11 ms beside 30 ms + 5 ms
  EXPECT_NEAR(transport_->now(), 35e-3, 1e-12);
  const Pending first = exchange(0, 10'000, 0), second = exchange(0, 0, 10'000);
  wait(second);
  EXPECT_NEAR(transport_->now(), 35e-3 + 25e-3, 1e-12);
  EXPECT_TRUE(first.ready());
}

TEST_F(TimedMetaTest, ALargeSumIsScatteredAndThenGathered) {
  const TensorView x{nullptr, DType::kFloat32, {40'000}};
  wait(communicator_.all_reduce({.phase = Phase::kDispatch}, x));
  EXPECT_EQ(traffic().sent_bytes, 2 * 3 * 40'000);
  EXPECT_NEAR(transport_->now(), 2 * 85e-3, 1e-12);
}

TEST_F(TimedMetaTest, WhatIsComputedMeanwhileIsHidden) {
  const Pending pending = exchange(0, 25'000, 0);
  computed_ += 20e-3;
  wait(pending);
  EXPECT_NEAR(transport_->now(), 30e-3, 1e-12);
  PhaseTraffic found = traffic();
  EXPECT_NEAR(found.overlapped_seconds, 20e-3, 1e-12);
  EXPECT_NEAR(found.exposed_seconds, 10e-3, 1e-12);

  const Pending again = exchange(0, 25'000, 0);
  computed_ += 1;
  wait(again);
  EXPECT_NEAR(transport_->now(), 1.03, 1e-12);
  EXPECT_EQ(traffic().exposed_seconds, 0);
}

TEST_F(TimedMetaTest, ExchangesThatAreUnderWayAtOnceCountOnce) {
  Communicator group(*transport_, Communicator::Deadline(1e9));
  const Parts parts{{}, {}, {nullptr, 5'000}, {}};
  const Tag combine{.phase = Phase::kCombine};
  const Pending first = exchange(0, 25'000, 0);  // to 30 ms
  const Pending second = group.all_to_all_v({.phase = Phase::kDispatch}, parts,
                                            parts);                 // to 35 ms
  const Pending third = group.all_to_all_v(combine, parts, parts);  // to 40 ms
  computed_ += 20e-3;
  wait(first);
  computed_ += 1e-3;
  wait(third);
  wait(second);
  EXPECT_NEAR(transport_->now(), 40e-3, 1e-12);
  const Traffic found = transport_->take_traffic();
  EXPECT_EQ(found[Phase::kDispatch].collectives, 2);
  EXPECT_NEAR(found[Phase::kDispatch].overlapped_seconds, 21e-3, 1e-12);
  EXPECT_NEAR(found[Phase::kDispatch].exposed_seconds, 10e-3, 1e-12);
  EXPECT_NEAR(found[Phase::kCombine].overlapped_seconds, 21e-3, 1e-12);
  EXPECT_NEAR(found[Phase::kCombine].exposed_seconds, 9e-3, 1e-12);
  EXPECT_NEAR(found.total().overlapped_seconds, 21e-3, 1e-12);
  EXPECT_NEAR(found.total().exposed_seconds, 19e-3, 1e-12);
}

TEST_F(TimedMetaTest, WhatIsStillUnderWayIsCountedUpToNow) {
  const Pending pending = exchange(0, 25'000, 0);
  computed_ += 20e-3;
  EXPECT_NEAR(traffic().overlapped_seconds, 20e-3, 1e-12);
  computed_ += 4e-3;
  wait(pending);
  const PhaseTraffic found = traffic();
  EXPECT_NEAR(found.overlapped_seconds, 4e-3, 1e-12);
  EXPECT_NEAR(found.exposed_seconds, 6e-3, 1e-12);
}

class CopyingMetaTest : public TimedMetaTest {
 protected:
  CopyingMetaTest() : TimedMetaTest(true) {}
};

TEST_F(CopyingMetaTest, WhatTheCoreCopiesIsNotHidden) {
  const Pending pending = exchange(90'000, 0, 0);
  EXPECT_NEAR(transport_->now(), 10e-3, 1e-12);  // sent
  computed_ += 1;
  wait(pending);
  EXPECT_NEAR(transport_->now(), 1.02, 1e-12);  // received
}

TEST(MetaTransportTest, WithoutAModelMessagesAreThroughAtOnce) {
  const auto transport = make_meta_transport(1, 3);
  Communicator communicator(*transport, Communicator::Deadline(1));
  Parts parts(3, {nullptr, 1 << 30});
  EXPECT_TRUE(communicator.all_to_all_v({}, parts, parts).ready());
}

}  // namespace
}  // namespace catena
